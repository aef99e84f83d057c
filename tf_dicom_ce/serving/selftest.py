"""Does every model of a repository still answer as it did at export?"""

from pathlib import Path
from typing import NamedTuple

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.saved_model.golden import TOLERANCE, replay


class Outcome(NamedTuple):
    """What came of one version.

    Attributes:
        model: Name.
        version: Number.
        difference: The largest one from the golden answers; None where there are none; infinite
            where the model cannot answer.
        note: Words about it.
    """

    model: str
    version: int
    difference: float | None
    note: str

    @property
    def failed(self) -> bool:
        """Whether this is not the model that was exported, or cannot be asked."""
        return self.difference is not None and self.difference > TOLERANCE


def selftest(root: Path) -> list[Outcome]:
    """Replays the golden inputs of all models and versions through their signatures.

    Args:
        root: Model repository, `<root>/<name>/<version>/`.

    Returns:
        One outcome a version; by name, oldest version first.

    Raises:
        UserError: There is no model.
    """
    folders = [path.parent for path in root.glob("*/*/saved_model.pb")]
    folders = [folder for folder in folders if folder.name.isdecimal()]
    if not folders:
        raise UserError(
            f"{root}: no model here, <name>/<version>/saved_model.pb. Give the folder that "
            "--export of train or finetune had."
        )
    folders.sort(key=lambda folder: (folder.parent.name, int(folder.name)))
    return [_ask(folder) for folder in folders]


def _ask(folder: Path) -> Outcome:
    model, version = folder.parent.name, int(folder.name)
    try:
        difference = replay(folder)
    except Exception as error:  # a damaged file can raise anything
        return Outcome(model, version, float("inf"), f"cannot answer: {type(error).__name__}")
    if difference is None:
        note = "not tested: exported without golden inputs"
    elif difference > TOLERANCE:
        note = f"not as at export: the answers differ by more than {TOLERANCE}"
    else:
        note = "as at export"
    return Outcome(model, version, difference, note)
