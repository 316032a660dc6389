"""Pictures of a run can be made from its log alone and show what they should."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from vggcli.report.plots import save_curves, save_sheet

RECORD = {"epoch": 1, "loss": 2.0, "val_loss": 1.9, "top1_error": 60.0, "top5_error": 20.0, "learning_rate": 0.01}


def test_curves_come_from_the_log_alone(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    sizes = []
    for epochs in (1, 5):
        lines = [json.dumps({**RECORD, "epoch": k + 1, "loss": 2.0 / (k + 1)}) for k in range(epochs)]
        log.write_text("\n".join(lines) + "\n")
        save_curves(log, tmp_path / "curves.png")
        with Image.open(tmp_path / "curves.png") as image:
            sizes.append(image.size)
            colours = len(image.convert("RGB").getcolors(1 << 20) or [])
        assert colours > 50  # not an empty page
    assert sizes == [(1440, 432)] * 2


def test_a_sheet_shows_every_picture_whole(tmp_path: Path) -> None:
    pictures = [np.full((40, 40, 3), 20 * k, np.uint8) for k in range(11)]
    save_sheet(
        pictures, [f"class {k} with a very long name that must be cut.jpg" for k in range(11)], tmp_path / "s.png"
    )
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.size == (8 * 100, 2 * 60)
        for k in range(11):
            left, top = (k % 8) * 100 + 28, (k // 8) * 60
            assert sheet.getpixel((left + 20, top + 20)) == (20 * k,) * 3
