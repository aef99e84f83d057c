"""The JSON of requests and answers, as schemas for `openapi`."""

from typing import Any


def ref(name: str) -> dict[str, str]:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    described = {"type": "object", "properties": properties}
    return described | ({"required": required.split()} if required else {})


def _array(items: dict) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT, _NUMBER, _WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
_STATES = ["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]

SCHEMAS = {
    "Error": _object("error", error=_TEXT),
    "State": _object("status", status={"enum": ["ok", "ready"]}),
    "Binary": _object("b64", b64={"type": "string", "contentEncoding": "base64"}),
    "Tensor": {
        "description": "A value, or lists of lists of values, all of equal lengths. Bytes, such as "
        "those of a PNG file, are an object with the key b64. NaN, Infinity and -Infinity are "
        "numbers here, which strict JSON does not know.",
        "type": ["number", "string", "boolean", "array", "object"],
    },
    "PredictRequest": {
        **_object(
            signature_name={
                "type": "string",
                "default": "serving_default",
                "description": "serving_default takes PNG or JPEG files, serving_image gray levels "
                "0 to 255; metadata tells the shapes.",
            },
            instances={
                **_array(ref("Tensor")),
                "minItems": 1,
                "maxItems": 32,
                "description": "Rows: one item for each image. With several inputs, objects.",
            },
            inputs={
                **ref("Tensor"),
                "description": "Columns: a tensor, or an object of tensors by the inputs' names.",
            },
        ),
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
    },
    "PredictResponse": {
        **_object(
            predictions=_array(ref("Tensor")),
            outputs=ref("Tensor"),
        ),
        "description": "`predictions` answers `instances`, `outputs` answers `inputs`; by the "
        "outputs' names if there are several.",
        "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}],
    },
    "GetModelStatusResponse": _object(
        "model_version_status",
        model_version_status=_array(
            _object(
                "version state status",
                version=_TEXT,
                state={"enum": _STATES},
                status=_object("error_code error_message", error_code=_TEXT, error_message=_TEXT),
            )
        ),
    ),
    "GetModelMetadataResponse": _object(
        "model_spec metadata",
        model_spec=_object("name version", name=_TEXT, version=_TEXT, signature_name=_TEXT),
        metadata=_object("signature_def", signature_def=_object("signature_def")),
    ),
    "Models": _object(
        "models",
        models=_array(
            _object(
                "name version weights_digest task classes",
                name=_TEXT,
                version=_TEXT,
                weights_digest={"type": ["string", "null"]},
                task={"enum": ["segmentation", "classification", None]},
                classes=_array(_TEXT),
            )
        ),
    ),
    "ImageAnswer": {
        **_object(
            "model notice image classes",
            model=_object(
                name=_TEXT,
                version=_TEXT,
                weights_digest=_TEXT,
                task=_TEXT,
                synthetic={"type": ["boolean", "null"]},
            ),
            notice=_TEXT,
            image=_object(
                format={"enum": ["dicom", "picture"]},
                rows=_WHOLE,
                columns=_WHOLE,
                frame=_WHOLE,
                frames=_WHOLE,
                region=_object(top=_WHOLE, left=_WHOLE, height=_WHOLE, width=_WHOLE),
            ),
            classes=_array(
                _object(
                    "class_id name",
                    class_id=_WHOLE,
                    name=_TEXT,
                    share={**_NUMBER, "description": "Of the region's pixels; segmentation."},
                    colour={"type": ["string", "null"]},
                    probability={**_NUMBER, "description": "Classification."},
                )
            ),
            mask=ref("Binary"),
            picture=ref("Binary"),
            **{"class": {**_TEXT, "description": "The most probable class; classification."}},
        ),
        "description": "Mask and picture are PNG: the mask a class number for each pixel of the "
        "image, the picture what the model saw.",
    },
}

EXAMPLES = {
    "rows": {
        "summary": "One PNG or JPEG file, in rows",
        "value": {"instances": [{"b64": "iVBORw0KGgo..."}]},
    },
    "named": {
        "summary": "The same, with the input's name",
        "value": {"instances": [{"image_bytes": {"b64": "iVBORw0KGgo..."}}]},
    },
    "columns": {
        "summary": "An image of 2 × 2 gray levels, in columns",
        "value": {
            "signature_name": "serving_image",
            "inputs": {"image": [[[[0], [85]], [[170], [255]]]]},
        },
    },
}
