"""Builds networks from a configuration."""

import keras

from tf_dicom_ce.config import FinetuneConfig, PretrainConfig
from tf_dicom_ce.models.backbones import build_encoder, load_teacher
from tf_dicom_ce.models.decoder import Decoder
from tf_dicom_ce.models.discriminator import (
    AuxiliaryDiscriminator,
    Discriminator,
    ProjectionDiscriminator,
)
from tf_dicom_ce.models.distillation import Distiller
from tf_dicom_ce.models.gan import ContextEncoderGAN
from tf_dicom_ce.models.heads import Classifier, Head, UNet
from tf_dicom_ce.models.linear import LinearClassifier, LinearSegmenter
from tf_dicom_ce.models.measured import MeasuredModel
from tf_dicom_ce.models.spectral import SpectralNormalization
from tf_dicom_ce.models.tag_head import TagHead, TagPredictor
from tf_dicom_ce.training.adam import FusedAdam

#: Setting `precision` -> Keras' dtype policy.
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def build_pretraining(config: PretrainConfig, labels: int) -> MeasuredModel:
    """Builds the model of a pretraining, compiled with Adam, with all variables created.

    The parts are built in a fixed order: with a seed, F and D start from the same weights with or
    without a tag head. `labels` is the length L of y.
    """
    policy = _POLICIES[config.precision]
    encoder = build_encoder(config.backbone, config.width, config.encoder_weights, policy)
    if config.inpaints:
        decoder = Decoder(config.width, dtype=policy)
        discriminator = _discriminator(config, labels, policy)
        tag_head = TagHead(labels) if config.predicts_tags else None
        model = ContextEncoderGAN(
            encoder,
            discriminator,
            config.lambda_rec,
            config.lambda_adv,
            config.adversarial,
            config.discriminator_input == "composite",
            tag_head,
            config.lambda_tags,
            decoder,
        )
    elif config.teacher:
        model = Distiller(encoder, load_teacher(config.teacher, config.image_size))
    else:
        model = TagPredictor(encoder, TagHead(labels), config.lambda_tags)
    model.build((None, *config.image_size, 1))
    _synchronise(model, config.sync_batchnorm)
    model.compile(
        FusedAdam(config.g_learning_rate, name="g_adam"),
        FusedAdam(config.d_learning_rate, name="d_adam"),
        jit_compile=False,
    )
    return model


def _discriminator(config: PretrainConfig, labels: int, policy: str):
    if not (config.use_dicom and labels):
        kind = Discriminator
    elif config.conditioning == "projection":
        kind = ProjectionDiscriminator
    else:
        kind = AuxiliaryDiscriminator
    discriminator = kind(labels if config.use_dicom else 0, config.width, dtype=policy)
    return SpectralNormalization(discriminator) if config.spectral_norm else discriminator


def build_head(config: FinetuneConfig, encoder: keras.Layer | None, classes: int) -> Head:
    """Puts the task's head on an encoder and creates all variables.

    The encoder maps z-scored images to the five scales; None builds one. In segmentation, `classes`
    includes the background.
    """
    policy = _POLICIES[config.precision]
    if encoder is None:
        encoder = build_encoder(config.backbone, config.width, config.encoder_weights, policy)
    encoder.trainable = not config.freeze  # as an argument it would not reach the blocks
    like = {"classes": classes, "width_multiplier": config.width, "dtype": policy}
    if config.head == "linear":
        kind = LinearSegmenter if config.task == "segmentation" else LinearClassifier
        model = kind(encoder, **like)
    elif config.task == "segmentation":
        model = UNet(encoder, **like)
    else:
        like |= {"dropout": config.dropout, "positive_weight": config.positive_weight}
        model = Classifier(encoder, ordinal=config.label_encoding == "ordinal", **like)
    model.build((None, *config.image_size, 1))
    _synchronise(model, config.sync_batchnorm)
    return model


def _synchronise(model: keras.Model, is_on: bool) -> None:
    """Sets whether BatchNorm takes batch statistics over all replicas, also in loaded layers."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = is_on
