"""Small networks of the kinds that public tutorials teach, in our own words.

`TUTORIALS` has those that a trace has to see through, `OPAQUE` those with one layer that it cannot.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tests.helpers.tutorials import generative, opaque, sequence, tabular_and_graphs, vision
from tests.helpers.tutorials.sequence import LENGTH, TOKENS
from tests.helpers.tutorials.tabular_and_graphs import CATEGORICAL, NUMERIC


@dataclasses.dataclass(frozen=True)
class Tutorial:
    """One network, with what it reads and how it is trained.

    Attributes:
        name: its name.
        build: makes the model, built.
        inputs: of the pruned model, for a number of examples.
        targets: likewise; None for one that `fit` trains.
        loss: what the targets are compared by.
        fit: `fit(model, callbacks, **kwargs of compile)`, for a model with a training of its own.
        part: which model of what `build` makes is called and pruned.
        uses_tape: whether its training is TensorFlow's.
        draws: whether its answers depend on random numbers.
    """

    name: str
    build: Callable[[], keras.Model]
    inputs: Callable[[keras.Model, int], Any]
    targets: Callable[[keras.Model, int], Any] | None = None
    loss: Any = "mse"
    fit: Callable[..., Any] | None = None
    part: Callable[[keras.Model], keras.Model] = lambda model: model
    uses_tape: bool = False
    draws: bool = False

    @property
    def custom_train(self):
        return self.fit is not None

    def train(self, model, callbacks=(), **kwargs):
        """Trains what `build` returned for two epochs.

        Args:
            model: what `build` returned.
            callbacks: those of `fit`.
            **kwargs: of `compile`.
        """
        if self.custom_train:
            return self.fit(model, list(callbacks), **kwargs)
        loss = keras.tree.map_structure(lambda _: self.loss, self.targets(model, 1))
        model.compile(keras.optimizers.Adam(1e-3), loss, **kwargs)
        x, y = self.inputs(model, 8), self.targets(model, 8)
        return model.fit(x, y, epochs=2, batch_size=8, callbacks=list(callbacks), verbose=0)


# Inputs and targets


def arrays(*shape):
    def draw(model, count, seed=0):
        return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")

    return draw


def whole_numbers(below, *shape, dtype="int32"):
    def draw(model, count, seed=0):
        return np.random.default_rng(seed).integers(0, below, (count, *shape)).astype(dtype)

    return draw


def together(structure):
    """Draws each entry of a list or dict with a seed of its own."""

    def draw(model, count):
        flat = [draw(model, count, seed) for seed, draw in enumerate(keras.tree.flatten(structure))]
        return keras.tree.pack_sequence_as(structure, flat)

    return draw


def adjacency(nodes):
    def draw(model, count, seed=0):
        edges = np.random.default_rng(seed).random((count, nodes, nodes)) < 0.4
        return (edges | np.eye(nodes, dtype=bool)).astype("float32")

    return draw


TOKEN_IDS = whole_numbers(TOKENS, LENGTH)
FEATURES = together(
    {name: arrays(1) for name in NUMERIC}
    | {name: whole_numbers(count, 1) for name, count in CATEGORICAL.items()}
)
NEXT_TOKENS = TOKEN_IDS


def classes(count, *shape):
    return whole_numbers(count, *shape)


def logits():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


PROBABILITIES = "sparse_categorical_crossentropy"


VISION = [
    Tutorial("mlp_mixer", vision.build_mlp_mixer, arrays(8, 8, 3), classes(4), logits()),
    Tutorial("gmlp", vision.build_gmlp, arrays(8, 8, 3), classes(4), logits()),
    Tutorial("swin", vision.build_swin, arrays(8, 8, 3), classes(4), logits()),
    Tutorial("vit", vision.build_vit, arrays(8, 8, 3), classes(4), logits()),
    Tutorial("small_vit", vision.build_small_vit, arrays(8, 8, 3), classes(4), logits()),
    Tutorial(
        "compact_transformer",
        vision.build_compact_transformer,
        arrays(8, 8, 3),
        classes(4),
        logits(),
    ),
    Tutorial("convmixer", vision.build_convmixer, arrays(8, 8, 3), classes(4), logits()),
    Tutorial("eanet", vision.build_eanet, arrays(8, 8, 3), classes(4), logits()),
    Tutorial("perceiver", vision.build_perceiver, arrays(8, 8, 3), classes(4), logits()),
    Tutorial("mobilevit", vision.build_mobilevit, arrays(16, 16, 3), classes(4), logits()),
    Tutorial("video_vit", vision.build_video_vit, arrays(4, 8, 8, 1), classes(4), PROBABILITIES),
    Tutorial("involution", vision.build_involution, arrays(8, 8, 4), classes(4), logits()),
    Tutorial("ghostnet", vision.build_ghostnet, arrays(8, 8, 3), classes(4), logits()),
    Tutorial("super_resolution", vision.build_super_resolution, arrays(8, 8, 1), arrays(16, 16, 1)),
    Tutorial("deeplab", vision.build_deeplab, arrays(16, 16, 3), classes(3, 16, 16), logits()),
    Tutorial("squeeze_excite", vision.build_squeeze_excite, arrays(8, 8, 3), classes(4), logits()),
    Tutorial("non_local", vision.build_non_local, arrays(8, 8, 3), classes(4), logits()),
    Tutorial(
        "detector",
        vision.build_detector,
        arrays(16, 16, 3),
        together({"classes": arrays(84, 3), "boxes": arrays(84, 4)}),
    ),
    Tutorial(
        "captcha_reader",
        vision.build_captcha_reader,
        arrays(16, 8, 1),
        classes(5, 4),
        PROBABILITIES,
    ),
]

SEQUENCE = [
    Tutorial("text_transformer", sequence.build_text_transformer, TOKEN_IDS, classes(4), logits()),
    Tutorial("mini_gpt", sequence.build_mini_gpt, TOKEN_IDS, NEXT_TOKENS, [logits(), None]),
    Tutorial("music_gpt", sequence.build_music_gpt, TOKEN_IDS, NEXT_TOKENS, logits()),
    Tutorial("fnet", sequence.build_fnet, TOKEN_IDS, classes(4), logits()),
    Tutorial("llama_like", sequence.build_llama_like, TOKEN_IDS, NEXT_TOKENS, logits()),
    Tutorial(
        "lstm_translator",
        sequence.build_lstm_translator,
        together([arrays(6, 10), arrays(5, 12)]),
        classes(12, 5),
        PROBABILITIES,
    ),
    Tutorial(
        "gru_translator",
        sequence.build_gru_translator,
        together({"source": TOKEN_IDS, "target": TOKEN_IDS}),
        NEXT_TOKENS,
        logits(),
    ),
    Tutorial(
        "transformer_translator",
        sequence.build_transformer_translator,
        together({"source": TOKEN_IDS, "target": TOKEN_IDS}),
        NEXT_TOKENS,
        PROBABILITIES,
    ),
    Tutorial("lstm_tagger", sequence.build_lstm_tagger, TOKEN_IDS, classes(5, LENGTH), logits()),
    Tutorial("wavenet", sequence.build_wavenet, arrays(16, 2), classes(6, 16), logits()),
    Tutorial("speech", sequence.build_speech, arrays(16, 8), classes(7, 16), PROBABILITIES),
    Tutorial(
        "timeseries_transformer",
        sequence.build_timeseries_transformer,
        arrays(16, 1),
        classes(4),
        PROBABILITIES,
    ),
    Tutorial("text_cnn", sequence.build_text_cnn, TOKEN_IDS, classes(4), logits()),
]

TABULAR_AND_GRAPHS = [
    Tutorial(
        "tab_transformer",
        tabular_and_graphs.build_tab_transformer,
        FEATURES,
        whole_numbers(2, 1),
        "binary_crossentropy",
    ),
    Tutorial(
        "temporal_fusion",
        tabular_and_graphs.build_temporal_fusion,
        FEATURES,
        classes(3),
        logits(),
    ),
    Tutorial(
        "wide_and_deep",
        tabular_and_graphs.build_wide_and_deep,
        FEATURES,
        classes(3),
        PROBABILITIES,
    ),
    Tutorial("deep_and_cross", tabular_and_graphs.build_deep_and_cross, FEATURES, arrays(1)),
    Tutorial(
        "two_tower",
        tabular_and_graphs.build_two_tower,
        together({"user": whole_numbers(10), "item": whole_numbers(12)}),
        together({"score": arrays(1), "rating": arrays(1)}),
    ),
    Tutorial("rating", tabular_and_graphs.build_rating, whole_numbers(10, 2), arrays(1)),
    Tutorial(
        "mixture_of_experts",
        tabular_and_graphs.build_mixture_of_experts,
        arrays(6),
        together({"income": arrays(2), "married": arrays(2)}),
    ),
    Tutorial(
        "decision_tree",
        tabular_and_graphs.build_decision_tree,
        arrays(6),
        classes(4),
        PROBABILITIES,
    ),
    Tutorial(
        "point_net", tabular_and_graphs.build_point_net, arrays(16, 3), classes(4), PROBABILITIES
    ),
    Tutorial(
        "graph_network",
        tabular_and_graphs.build_graph_network,
        together([arrays(6, 5), adjacency(6)]),
        classes(3),
        logits(),
    ),
    Tutorial(
        "graph_attention",
        tabular_and_graphs.build_graph_attention,
        together({"nodes": arrays(6, 5), "adjacency": adjacency(6)}),
        classes(3, 6),
        logits(),
    ),
    Tutorial(
        "node_classifier",
        tabular_and_graphs.build_node_classifier,
        whole_numbers(8),
        classes(3),
        logits(),
    ),
    Tutorial("traffic", tabular_and_graphs.build_traffic, arrays(6, 5, 1), arrays(2, 5)),
]

GENERATIVE = [
    Tutorial(
        "gan",
        generative.build_gan,
        arrays(generative.LATENT),
        fit=generative.fit_gan,
        part=lambda gan: gan.generator,
        uses_tape=True,
    ),
    Tutorial(
        "gan_discriminator",
        generative.build_gan,
        arrays(8, 8, 1),
        fit=generative.fit_gan,
        part=lambda gan: gan.discriminator,
        uses_tape=True,
    ),
    Tutorial(
        "wgan",
        generative.build_wgan,
        arrays(generative.LATENT),
        fit=generative.fit_wgan,
        part=lambda gan: gan.generator,
        uses_tape=True,
    ),
    Tutorial(
        "vae_encoder",
        generative.build_vae,
        arrays(8, 8, 1),
        fit=generative.fit_vae,
        part=lambda vae: vae.encoder,
        uses_tape=True,
        draws=True,
    ),
    Tutorial(
        "vae_decoder",
        generative.build_vae,
        arrays(2),
        fit=generative.fit_vae,
        part=lambda vae: vae.decoder,
        uses_tape=True,
    ),
    Tutorial(
        "vae_with_add_loss",
        generative.build_vae_with_add_loss,
        arrays(10),
        arrays(10),
        draws=True,
    ),
    Tutorial(
        "vq_vae",
        generative.build_vq_vae,
        arrays(8, 8, 1),
        fit=generative.fit_vq_vae,
        part=lambda trainer: trainer.vqvae,
        uses_tape=True,
    ),
    Tutorial(
        "denoising_autoencoder",
        generative.build_denoising_autoencoder,
        arrays(8, 8, 1),
        arrays(8, 8, 1),
    ),
    Tutorial("pixel_cnn", generative.build_pixel_cnn, arrays(8, 8, 1), arrays(8, 8, 1)),
    Tutorial("real_nvp", generative.build_real_nvp, arrays(2), fit=generative.fit_real_nvp),
    Tutorial(
        "diffusion",
        generative.build_diffusion,
        together([arrays(8, 8, 1), arrays(1)]),
        fit=generative.fit_diffusion,
        part=lambda diffusion: diffusion.network,
        uses_tape=True,
    ),
    Tutorial(
        "simsiam",
        generative.build_simsiam,
        arrays(8, 8, 3),
        fit=generative.fit_simsiam,
        part=lambda simsiam: simsiam.encoder,
        uses_tape=True,
    ),
    Tutorial(
        "distiller",
        generative.build_distiller,
        arrays(8, 8, 1),
        fit=generative.fit_distiller,
        part=lambda distiller: distiller.student,
    ),
    Tutorial(
        "siamese",
        generative.build_siamese,
        together([arrays(8, 8, 3)] * 3),
        fit=generative.fit_siamese,
    ),
    Tutorial("radiance_field", generative.build_radiance_field, arrays(4, 3), arrays(3)),
]

TUTORIALS = {
    tutorial.name: tutorial for tutorial in VISION + SEQUENCE + TABULAR_AND_GRAPHS + GENERATIVE
}

# The layer that a warning has to name, and the network that it is in.
OPAQUE = {
    "raw_relu": Tutorial("raw_tensorflow", opaque.build_raw_tensorflow, arrays(6), classes(3)),
    "two_faced": Tutorial("two_faced", opaque.build_two_faced, arrays(6), classes(3)),
}
