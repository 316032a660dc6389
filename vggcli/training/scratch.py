"""A run from random weights, or from net A's layers (section 3.1)."""

from dataclasses import replace
from pathlib import Path

from vggcli.data.training_batches import colour_statistics
from vggcli.errors import WeightsError
from vggcli.files import file_sha256
from vggcli.progress import LOG
from vggcli.training.data import surveyed_sets
from vggcli.training.options import RunOptions, TrainingData
from vggcli.training.plan import Plan
from vggcli.training.run import check_run_place
from vggcli.training.session import Session, begun, new_network
from vggcli.training.surroundings import Surroundings
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.weights.find import fetched, find_weights
from vggcli.zoo.initialise import initialise_from_network_a


def prepare(plan: Plan, options: RunOptions, around: Surroundings, again: bool = False) -> Session:
    """Read the data, build and initialise the network, and make the run folder last, after all checks; or begin `again` in
    the folder of `options`, whose lock is held."""
    if not again:
        check_run_place(options.folder, around.places.runs)
    sets = surveyed_sets(plan, options, around, again)
    classes = sets.train.classes
    with around.progress(f"initialising network {plan.arch}", 1, "network"):
        network = new_network(plan, len(classes), options)
    if plan.init_from is not None:
        donor = fetched(find_weights(Path(plan.init_from), None, around.places), around.places, around.progress)
        if plan.init_from_sha256 not in (None, digest := file_sha256(donor)):
            raise WeightsError(f"{donor} has changed since the run began; name network A's weights", "init_from")
        plan = replace(plan, init_from=str(donor.resolve()), init_from_sha256=digest)
        source, about = load_checkpoint(donor)
        known = sorted(about.classes) == sorted(classes)
        copied = initialise_from_network_a(
            network, source, [about.classes.index(one) for one in classes] if known else None
        )
        LOG.info(f"initialised from {donor}: {', '.join(copied)}")
        if not known:
            LOG.info(f"fc8 is new: {donor} {'has other classes' if about.classes else 'does not name its classes'}")
        del source  # frees the memory of its weights
    colour = colour_statistics(sets.train, plan.recipe.scale[0], options.workers, around.progress)
    data = TrainingData(sets.train, sets.val, colour)
    return begun(replace(plan, data=sets.name), network, data, options, around, sets.skipped, again)
