"""Who made a result."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Model:
    """An exported head, as results name it.

    Attributes:
        name: Of the model in its repository.
        version: Of the model, e.g. "3".
        task: `segmentation` or `classification`.
        classes: Their names in the order of the answer; segmentation: background first.
        weights_digest: Of the weights, SHA-256 in hex: another training has another one, even of
            the same name and version.
        fingerprint: Of the training data, or "unknown".
        synthetic: Whether it was trained on the phantom; None: unknown.
    """

    name: str
    version: str
    task: str
    classes: tuple[str, ...]
    weights_digest: str
    fingerprint: str
    synthetic: bool | None

    @classmethod
    def of(cls, name: str, version: str, content: dict) -> "Model":
        """The model of an export.

        Args:
            name: Of the model in its repository.
            version: Of the model.
            content: Of its `<task>.json`, as `saved_model.read_metadata` gives it.

        Raises:
            KeyError: The content is not that of a head.
        """
        return cls(
            name,
            version,
            content["task"],
            tuple(content["classes"]),
            content["weights_digest"],
            content.get("data_fingerprint", "unknown"),
            content.get("synthetic_data"),
        )
