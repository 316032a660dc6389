"""What a checkpoint's record may say of its network and its preprocessing, checked before anything is built from it."""

import math
from typing import Any, get_args

from vggcli.errors import UsageError
from vggcli.zoo.layers import Head, NetworkConfig
from vggcli.zoo.preprocessing import check_numbers


def checked_config(fields: dict[str, Any]) -> NetworkConfig:
    """The network of a checkpoint's record. Raises ValueError, KeyError or TypeError where it cannot be meant."""
    for name, kinds in (("classes", (int,)), ("crop", (int,)), ("width", (int, float))):
        if type(fields[name]) not in kinds:
            raise ValueError(f"{fields[name]!r} for the network's {name}"[:200])
    if fields["head"] not in get_args(Head):
        raise ValueError(f"the head {fields['head']!r}"[:200])
    try:
        return NetworkConfig(**fields)
    except UsageError as error:
        raise ValueError(str(error)) from error


def check_preprocessing(fields: dict[str, Any]) -> None:
    """Raises ValueError unless there are a mean and a divisor that pixels can be brought to the network with."""
    mean, divisor = fields["mean"], fields["divisor"]
    check_numbers(mean, divisor if isinstance(divisor, list | tuple) else [divisor] * 3)
    vectors = [value for row in fields["eigenvectors"] for value in row]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in (*fields["eigenvalues"], *vectors)):
        raise ValueError("a preprocessing whose eigenvalues or eigenvectors are not finite numbers")
    if (len(fields["eigenvalues"]), len(fields["eigenvectors"]), len(vectors)) not in ((3, 3, 9), (0, 0, 0)):
        raise ValueError("a preprocessing whose eigenvalues are not those of three colours")
