"""Artefacts: exported models as `<root>/<name>/<version>/`, read by heads and by servers.

A folder holds the SavedModel, `<name>.json` (what the network expects, where it comes from, and the
digest of its weights, see `reading`),
`MODEL_CARD.md` and `assets.extra/golden.json`; an encoder's also `encoder.keras`. Every SavedModel
has two signatures with the preprocessing inside,

    serving_default   image_bytes: string [N], PNG or JPEG files
    serving_image     image: float32 [N, H, W, 1], gray levels 0…255, any H and W

a segmentation's two more, which answer with the mask alone,

    serving_mask      image_bytes: `mask`, uint8 [N, height, width]
    serving_mask_png  image_bytes: `mask_bytes`, string [N], the same as PNG files

and an encoder's has two endpoints on z-scored images at the model's own size, float32
[N, height, width, 1],

    serve             BatchNorm at its moving statistics
    train             BatchNorm on the batch, moving statistics updated

An encoder answers with the five scales by name, `P1`…`P5`.
"""
