"""SemanticAC: clips and label texts in one embedding space."""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal, Self, get_args

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from edge.inference.frontend import FrontEnd
from edge.types import FloatArray
from semanticac_keras import presets, prompts
from semanticac_keras.audio_tower import AudioTower, Tower, mean_by_owner
from semanticac_keras.bert_encoder import BertEncoder
from semanticac_keras.centered_text import CenteredText
from semanticac_keras.checkpoints.clap import load_clap
from semanticac_keras.checkpoints.sentence import load_sentence_encoder
from semanticac_keras.class_odds import ClassOdds, measure_background
from semanticac_keras.class_profile import ClassProfile, NameMixture
from semanticac_keras.class_vectors import ClassIndex, ClassVectors
from semanticac_keras.clip_tokenizer import CLIPTokenizer
from semanticac_keras.heads import Head, ZeroPadded
from semanticac_keras.inputs import (
    Examples,
    as_windows,
    check_loss_argument,
    file_groups,
    is_waveforms,
    loaded,
)
from semanticac_keras.losses import TARGETS, Targets, contrastive_loss, l2_normalize
from semanticac_keras.pretrained import Pretrained, load_pretrained
from semanticac_keras.prompts import LabelTexts
from semanticac_keras.scores import sigmoid, softmax
from semanticac_keras.subword_tokenizer import SubwordTokenizer
from semanticac_keras.tagger import Tagger
from semanticac_keras.tagger_tower import TaggerTower
from semanticac_keras.text_encoder import TextEncoder
from semanticac_keras.text_table import TextRows, TextTable
from semanticac_keras.tokenizer import ByteTokenizer

Texts = Literal["labels", "random", "none"]
Tokenizer = ByteTokenizer | CLIPTokenizer | SubwordTokenizer | ClassIndex | TextRows
TextTower = TextEncoder | BertEncoder | ClassVectors | CenteredText | TextTable

# As in CLIP: the temperature starts at 0.07 and stays at or above 0.01.
INITIAL_LOG_SCALE = math.log(1.0 / 0.07)
MAX_LOG_SCALE = math.log(100.0)
# As in SigLIP.
INITIAL_SIGMOID_LOG_SCALE = math.log(10.0)
# Nothing is trained on a tagger's scores, so this is a constant, near the lowest cross entropy on
# two labelled sets of recordings, with 10 and 20 labels.
CLASS_NAMES_LOG_SCALE = math.log(20.0)


@keras.saving.register_keras_serializable("semanticac_keras")
class AtMost(keras.constraints.Constraint):
    """Upper bound of a weight, applied after each update.

    Clipping inside the loss would stop the gradient at the bound.

    Args:
        limit: largest value.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __call__(self, w):
        return ops.minimum(w, ops.cast(self.limit, w.dtype))

    def get_config(self):
        return {"limit": self.limit}


@keras.saving.register_keras_serializable("semanticac_keras")
class SemanticAC(keras.Model):
    """Audio classifier whose classes are texts: it predicts the label nearest to the clip.

    The model computes logits: cosine similarities between clips and label texts, times a learned
    scale. `model(x)` and `predict_on_batch` return these logits, `predict` returns probabilities:
    their softmax. With `targets="sigmoid"` the labels are independent: a learned bias is added to
    the logits, and `predict` returns their sigmoid, so that a clip may have several labels or none.
    Training encodes the texts in each step. Inference uses baked label embeddings, which `fit`
    renews before each validation and at the end of each epoch, so that checkpoints contain
    up-to-date embeddings.

    Args:
        audio_tower: model from sound to unit vectors.
        text_encoder: model from token ids to vectors of the same size, or `ClassVectors` for
            classification without text.
        tokenizer: callable from texts to token ids; a `ClassIndex` for `ClassVectors`.
        labels: class names, distinct.
        prompt: text around a label, with `{label}`.
        targets: form of the loss: `"diagonal"`, `"multi_positive"`, `"prototype"` or `"sigmoid"`,
            see `contrastive_loss`.
        label_smoothing: how far each target moves from 0 or 1 towards 1 / K, or 1 / (K + 1) with
            `"sigmoid"`, in [0, 1]; not for `"diagonal"`.
        random_texts: replace each label in its text by random letters: a control experiment that
            measures what the meaning of the labels contributes.
        token_ids: int (N, L), token ids of the labels' texts; tokenised here if not given. A saved
            model stores them and needs no vocabulary to predict.
        label_texts: texts that replace a label's name in its prompt, one or several, for some of
            the labels. The vector of several is the mean of their unit vectors, scaled to unit
            length.

    Call arguments:
        inputs: float32 waveforms (B, samples) in [-1, 1], one window long, or log-mels
            (B, frames, mels) in decibels.

    Returns:
        float32 logits, (B, K).

    Raises:
        ValueError: if the embedding sizes of the towers differ, or the labels, their texts, the
            prompt or the targets are invalid.

    Source: SemanticAC, section 2.
    """

    def __init__(
        self,
        audio_tower: Tower,
        text_encoder: TextTower,
        tokenizer: Tokenizer,
        labels: Sequence[str],
        prompt: str = prompts.DEFAULT_PROMPT,
        targets: Targets = "diagonal",
        label_smoothing: float = 0.0,
        random_texts: bool = False,
        token_ids: npt.ArrayLike | None = None,
        label_texts: LabelTexts | None = None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        if audio_tower.embedding_dim != text_encoder.output_dim:
            raise ValueError(
                "both towers must have the same embedding size. Received: "
                f"audio {audio_tower.embedding_dim}, text {text_encoder.output_dim}"
            )
        if targets not in TARGETS:
            raise ValueError(f"`targets` must be one of {TARGETS}. Received: {targets!r}")
        if label_smoothing and targets == "diagonal":
            raise ValueError('`label_smoothing` does nothing with targets="diagonal"')
        self.audio_tower = audio_tower
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.targets = targets
        self.label_smoothing = label_smoothing
        self.random_texts = random_texts
        log_scale = INITIAL_LOG_SCALE if self.exclusive else INITIAL_SIGMOID_LOG_SCALE
        self.logit_scale = self._scalar("logit_scale", log_scale, AtMost(MAX_LOG_SCALE))
        self.logit_bias: keras.Variable | None = None
        if not self.exclusive:
            # A score of 1 / (K + 1), as SigLIP's -10 suits the number of texts of a large batch.
            self.logit_bias = self._scalar("logit_bias", -math.log(max(1, len(labels))))
        self.label_embeddings: keras.Variable | None = None
        self.label_features: keras.Variable | None = None
        self._predicts_waveforms = True
        self._training_runs = False
        self._baked_from: tuple[float, ...] = ()
        self._texts: tuple[tuple[str, ...], ...] = ()
        self.built = True
        self._set_labels(labels, prompt, label_texts, token_ids)

    def _scalar(
        self, name: str, value: float, constraint: keras.constraints.Constraint | None = None
    ) -> keras.Variable:
        return self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(value),
            constraint=constraint,
            dtype="float32",
            autocast=False,
            name=name,
        )

    @classmethod
    def from_preset(
        cls,
        preset: str,
        labels: Sequence[str],
        prompt: str | None = None,
        targets: Targets = "diagonal",
        label_smoothing: float = 0.0,
        spec_augment: bool = False,
        conv_stem: bool = True,
        head: Head = "cscm",
        texts: Texts = "labels",
        tokenizer: Tokenizer | None = None,
        text_encoder: TextTower | None = None,
        audio_tower: Tower | None = None,
        label_texts: LabelTexts | None = None,
        weights: str | os.PathLike[str] | Pretrained | None = None,
    ) -> Self:
        """Create a compiled model at a preset's size, with random weights or a pretrained tower.

        With `weights`, the audio tower is a pretrained one, and a label's text is placed in the
        space of the sentence encoder that it was trained in: the model classifies without training.
        The vectors of the texts that it was trained on, the names of AudioSet's classes, come with
        the weights. Other texts are mixtures of these, see `NameMixture`; for them MiniLM is
        loaded, see `load_sentence_encoder`.

        The optimiser is AdamW (learning rate 1e-3, weight decay 0.05), the metric accuracy, or none
        with `targets="sigmoid"`. Call `compile` again to change them.

        Args:
            preset: one of `semanticac_keras.presets.PRESETS`; any name if both towers and the
                tokenizer are given.
            labels: class names.
            prompt: text around a label, with `{label}`; if not given, "an audio clip of {label}",
                or the label alone with `weights` and no `text_encoder`.
            targets: form of the loss, see `contrastive_loss`.
            label_smoothing: how far each target moves from 0 or 1 towards 1 / K, or 1 / (K + 1)
                with `"sigmoid"`, in [0, 1].
            spec_augment: whether to apply `SpecAugment` to the log-mels while training.
            conv_stem: whether to use the preset's convolutional stem, if it has one, instead of a
                patch embedding.
            head: similarity head, one of `semanticac_keras.heads.HEADS`.
            texts: `"labels"`; `"random"`, which replaces each label in its text by random letters;
                or `"none"`, learned class vectors without a text encoder, which ignores `prompt`
                and `tokenizer` and has no `label_texts`.
            tokenizer: callable from texts to token ids; the preset's if not given.
            text_encoder: model from token ids to vectors of the preset's embedding size; the
                preset's if not given. It needs its own `tokenizer`.
            audio_tower: tower in place of the preset's, such as a `TaggerTower`; `spec_augment`,
                `conv_stem` and `head` have no effect on it.
            label_texts: texts that replace a label's name in its prompt, see the class.
            weights: `"pretrained"`, the weights of `small` that come with the package; the path of
                a file that `training.pretrain` wrote; or what `load_pretrained` returned, which
                keeps its own `spec_augment`.

        Raises:
            CheckpointError: if the weights, or MiniLM for them, are not available.
            ValueError: if an option is unknown, or the labels, their texts or the prompt are
                invalid.
        """
        if texts not in get_args(Texts):
            raise ValueError(f"`texts` must be one of {get_args(Texts)}. Received: {texts!r}")
        if text_encoder is not None and tokenizer is None:
            raise ValueError("`text_encoder` needs its own `tokenizer`. Received: None")
        known: Pretrained | None = None
        if weights is not None:
            if audio_tower is not None or head != "cscm" or not conv_stem:
                raise ValueError("`weights` have their own audio tower, stem and head")
            pretrained = (
                weights
                if isinstance(weights, Pretrained)
                else load_pretrained(weights, spec_augment=spec_augment)
            )
            if pretrained.preset != preset:
                raise ValueError(
                    f"`preset` must be {pretrained.preset!r}, the weights'. Received: {preset!r}"
                )
            audio_tower = pretrained.audio_tower
            if texts == "labels" and text_encoder is None:
                known, prompt = pretrained, prompt or "{label}"
                by_label = prompts.texts_by_label(labels, label_texts)
                every = [text for group in by_label.values() for text in group]
                text_encoder, tokenizer = known.space.text_tower(prompts.fill(prompt, every))
                if isinstance(text_encoder, NameMixture):
                    head = ZeroPadded(audio_tower.head, name="padded")
                    audio_tower = audio_tower.with_parts(audio_tower.encoder, head)
        elif audio_tower is None:
            stem: dict[str, Any] = {} if conv_stem else {"stem_channels": ()}
            audio_tower = AudioTower.from_preset(preset, head, spec_augment=spec_augment, **stem)
        if texts == "none":
            prompt = "{label}"
            labels = prompts.fill(prompt, labels)
            text_encoder = ClassVectors(
                len(labels), audio_tower.embedding_dim, name="class_vectors"
            )
            tokenizer = ClassIndex(labels)
        elif text_encoder is None:
            text_encoder = TextEncoder.from_preset(
                preset, output_dim=audio_tower.embedding_dim, name="text_encoder"
            )
        model = cls(
            audio_tower,
            text_encoder=text_encoder,
            tokenizer=tokenizer or presets.tokenizer(preset),
            labels=labels,
            prompt=prompt or prompts.DEFAULT_PROMPT,
            targets=targets,
            label_smoothing=label_smoothing,
            random_texts=texts == "random",
            label_texts=label_texts,
            name=preset,
        )
        if known is not None:
            model.logit_scale.assign(known.log_scale)
            if model.logit_bias is not None:
                model.logit_bias.assign(known.bias)
        metrics = ["accuracy"] if model.exclusive else []
        model.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.05), metrics=metrics)
        return model

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        labels: Sequence[str],
        prompt: str | None = None,
        tokenizer: SubwordTokenizer | None = None,
        label_texts: LabelTexts | None = None,
    ) -> Self:
        """Create a model from a published CLAP, which classifies without training.

        It has CLAP's front end (48 kHz, windows of 10 s), both towers with their MLPs, and the
        logit scale of audio clips. The text encoder is frozen: `fit` trains the audio tower and the
        logit scale, after a call of `compile`, for instance with AdamW and a learning rate of 1e-5.

        Args:
            source: `"clap-htsat-unfused"`, which is downloaded once; a directory as published at
                Hugging Face, with `config.json`, `model.safetensors` or `pytorch_model.bin`, and
                the tokenizer's files; or a `.pt` file of LAION-CLAP, with RoBERTa's tokenizer
                files beside it.
            labels: class names.
            prompt: text around a label, with `{label}`; if not given, CLAP's, "This is a sound of
                {label}."
            tokenizer: RoBERTa's, if the source has no files of it.
            label_texts: texts that replace a label's name in its prompt, see the class.

        Raises:
            CheckpointError: if files are not available or damaged, or are of another kind of model,
                such as CLAP with feature fusion.
            ValueError: if the labels, their texts or the prompt are invalid.

        Source: Wu et al. 2023, "LAION-CLAP", section 3.
        """
        prompt = prompts.CLAP_PROMPT if prompt is None else prompt
        # Refuse wrong texts before anything is read.
        prompts.fill(prompt, list(prompts.texts_by_label(labels, label_texts)))
        clap = load_clap(os.fspath(source), tokenizer)
        model = cls(
            clap.audio_tower,
            clap.text_encoder,
            clap.tokenizer,
            labels,
            prompt,
            label_texts=label_texts,
            name="clap",
        )
        model.logit_scale.assign(clap.log_scale)
        return model

    @classmethod
    def from_tagger(
        cls,
        tagger: Tagger,
        class_names: Sequence[str],
        labels: Sequence[str],
        prompt: str = "{label}",
        text_encoder: TextEncoder | BertEncoder | None = None,
        tokenizer: Tokenizer | None = None,
        background: Sequence[str | os.PathLike[str] | FloatArray] = (),
        label_texts: LabelTexts | None = None,
    ) -> Self:
        """Create a model from a tagger's scores and the names of its classes, without training.

        A label is a profile over the names that are nearest to it in the space of a sentence
        encoder (`ClassProfile`), a clip a vector of the tagger's scores (`ClassOdds`). A label with
        no name near it, or whose class the tagger hardly ever gives a score, is not found.

        Args:
            tagger: the tagger.
            class_names: names of its classes, in the order of its scores, see `read_class_names`.
            labels: class names of the model, any texts.
            prompt: text around a label, with `{label}`.
            text_encoder: encoder of labels and names; `load_sentence_encoder("minilm")` if not
                given. It needs its own `tokenizer`.
            tokenizer: callable from texts to token ids.
            background: paths of sound files, or float waveforms (samples,) at the tagger's sample
                rate: any recordings, such as those of a place. Scores are then compared with what
                is usual there.
            label_texts: texts that replace a label's name in its prompt, see `SemanticAC`.

        Raises:
            CheckpointError: if MiniLM is not available.
            ValueError: if the number of names is not that of the scores, the labels or the prompt
                are invalid, or a recording cannot be read.
        """
        if len(class_names) != tagger.num_scores:
            raise ValueError(
                f"`class_names` must have one name for each of the tagger's {tagger.num_scores} "
                f"scores. Received: {len(class_names)}"
            )
        # Refuse wrong texts before anything is read.
        prompts.fill(prompt, list(prompts.texts_by_label(labels, label_texts)))
        if text_encoder is None:
            text_encoder, tokenizer = load_sentence_encoder("minilm")
        elif tokenizer is None:
            raise ValueError("`text_encoder` needs its own `tokenizer`. Received: None")
        head = ClassOdds(tagger.num_scores, root=2 if background else 4, name="class_odds")
        tower = TaggerTower.from_tagger(tagger, head, scores=True, name="audio")
        if background:
            measure_background(tower, background)
        profile = ClassProfile.from_names(
            text_encoder, tokenizer, class_names, name="class_profile"
        )
        model = cls(
            tower, profile, tokenizer, labels, prompt, label_texts=label_texts, name="class_names"
        )
        model.logit_scale.assign(CLASS_NAMES_LOG_SCALE)
        return model

    @property
    def exclusive(self) -> bool:
        """Whether a clip has exactly one label, so that its scores sum to 1."""
        return self.targets != "sigmoid"

    @property
    def front_end(self) -> FrontEnd:
        """Log-mel parameters and window length of the input."""
        return self.audio_tower.front_end

    @property
    def label_texts(self) -> dict[str, tuple[str, ...]]:
        """Texts that are filled into the prompt, by label: its name if it has no others."""
        return dict(zip(self.labels, self._texts, strict=True))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The text of each label in the prompt; several are joined by "; "."""
        texts = iter(self._filled(self.prompt, self._texts))
        return tuple("; ".join(islice(texts, len(group))) for group in self._texts)

    def _filled(self, prompt: str, texts: Sequence[Sequence[str]]) -> tuple[str, ...]:
        """Fill the texts of all labels into the prompt."""
        return prompts.fill(prompt, [text for group in texts for text in group], self.random_texts)

    def set_labels(
        self,
        labels: Sequence[str],
        prompt: str | None = None,
        label_texts: LabelTexts | None = None,
    ) -> None:
        """Replace the classes. Their number may change; the weights of both towers do not.

        Args:
            labels: class names, distinct.
            prompt: text around a label, with `{label}`; the current prompt if not given.
            label_texts: texts that replace a label's name in its prompt, see the class.

        Raises:
            ValueError: if the labels, their texts or the prompt are invalid, two texts are equal to
                the tokenizer, or the model has learned class vectors; the current classes are kept.
        """
        self._set_labels(labels, self.prompt if prompt is None else prompt, label_texts, None)

    def _set_labels(
        self,
        labels: Sequence[str],
        prompt: str,
        label_texts: LabelTexts | None,
        token_ids: npt.ArrayLike | None,
    ) -> None:
        by_label = prompts.texts_by_label(labels, label_texts)
        texts = tuple(by_label.values())
        filled = self._filled(prompt, texts)
        if token_ids is None:
            token_ids = self.tokenizer(filled)
            _expect_distinct([text for group in texts for text in group], token_ids)
        token_ids = np.asarray(token_ids, np.int32)
        if len(token_ids) != len(filled):
            raise ValueError(
                f"`token_ids` must have {len(filled)} rows. Received: {len(token_ids)}"
            )
        resized = [len(group) for group in texts] != [len(group) for group in self._texts]
        self.labels = tuple(by_label)
        self.prompt = prompt
        self._texts = texts
        self._token_ids = token_ids
        self.train_function = None  # was traced with the earlier texts
        if resized:
            # K is part of the weights' shape: replace them and the functions traced with them.
            self._replace_label_weights()
        self.bake_labels()

    def _replace_label_weights(self) -> None:
        self._tracker.unlock()
        for weight in (self.label_embeddings, self.label_features):
            if weight is not None:
                self._untrack_variable(weight)
        self.label_embeddings = self._label_weight(
            (len(self.labels), self.text_encoder.output_dim), "label_embeddings"
        )
        # What a frozen text encoder makes of the texts need not be computed in each step.
        if feature_dim := getattr(self.text_encoder, "feature_dim", None):
            self.label_features = self._label_weight(
                (len(self._token_ids), feature_dim), "label_features"
            )
        self._tracker.lock()
        self.test_function = self.predict_function = None

    def _label_weight(self, shape: tuple[int, int], name: str) -> keras.Variable:
        return self.add_weight(
            shape=shape,
            initializer="zeros",
            trainable=False,
            dtype="float32",
            autocast=False,
            name=name,
        )

    def bake_labels(self, whole: bool = True) -> None:
        """Recompute the label embeddings used by inference.

        `fit`, `evaluate` and `predict` do so by themselves. Call it before `model(x)`,
        `predict_on_batch` or `save`, after changing the text encoder's weights in another way.

        Args:
            whole: whether to run the frozen part of the text encoder too, which a training does not
                change.
        """
        assert self.label_embeddings is not None  # created by the constructor
        if not whole:
            self.label_embeddings.assign(self.embed_labels())
            self._baked_from = ()
            return
        if self.label_features is not None:
            token_ids = ops.convert_to_tensor(self._token_ids)
            self.label_features.assign(self.text_encoder.features(token_ids))
        self.label_embeddings.assign(self.embed_labels())
        self._baked_from = self._text_fingerprint()

    def refresh_labels(self) -> None:
        """Bake the labels if the text encoder's weights have changed since they were baked."""
        if self._baked_from != self._text_fingerprint():
            self.bake_labels()

    def _text_fingerprint(self) -> tuple[float, ...]:
        """Sum of each of the text encoder's weights, which any change of them also changes."""
        sums = (ops.sum(ops.abs(weight)) for weight in self.text_encoder.weights)
        return tuple(float(ops.convert_to_numpy(total)) for total in sums)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """Load weights as Keras does, and bake this model's labels with them."""
        super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        self.bake_labels()

    def embed_labels(self):
        """Encode the label texts with the current weights: float32 unit vectors (K, C).

        The part of a `BertEncoder` that is frozen ran when the labels were baked.
        """
        if self.label_features is not None:
            vectors = self.text_encoder.project(self.label_features, normalize=True)
        else:
            vectors = self._embed_texts(self._token_ids)
        lengths = [len(group) for group in self._texts]
        if max(lengths) == 1:
            return vectors
        owners = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        return l2_normalize(ops.segment_sum(vectors, owners, num_segments=len(lengths)))

    def call(self, inputs, training=False):
        return self.compare(self.audio_tower(inputs, training=training), training)

    def compare(self, embeddings, training=False):
        """Compare embeddings of clips with the label texts.

        Args:
            embeddings: float32 unit vectors (B, C).
            training: whether to encode the texts anew instead of using the baked embeddings.

        Returns:
            float32 logits (B, K).
        """
        live = training and self.text_encoder.trainable
        texts = self.embed_labels() if live else self.label_embeddings
        logits = ops.exp(self.logit_scale) * ops.matmul(embeddings, ops.transpose(texts))
        return logits if self.logit_bias is None else logits + self.logit_bias

    def scores(self, logits: FloatArray) -> FloatArray:
        """Turn logits into the scores that `predict` returns.

        Args:
            logits: float (n, K), such as `predict_on_batch` returns.

        Returns:
            Probabilities (n, K): the softmax of each row, or each logit's sigmoid if the labels are
            independent.
        """
        return softmax(logits) if self.exclusive else sigmoid(logits)

    def _embed_texts(self, token_ids):
        """Encode tokenised texts: float32 unit vectors (n, C)."""
        embeddings = self.text_encoder(ops.convert_to_tensor(token_ids), normalize=True)
        return ops.cast(embeddings, "float32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Contrastive loss of logits `y_pred` (B, K).

        Args:
            x: unused.
            y: as for `fit`.
            y_pred: float32 logits (B, K).
            sample_weight: optional (B,), weight of each clip.
            training: whether to apply label smoothing.

        Returns:
            float32 scalar.
        """
        self._expect_one_replica()
        if self.label_smoothing and training:
            y = self._smooth(y)
        loss = contrastive_loss(y_pred, y, self.targets, sample_weight)
        for extra in self.losses:
            loss = loss + ops.sum(ops.cast(extra, "float32"))
        return loss

    def _expect_one_replica(self) -> None:
        """Reject `tf.distribute`, whose replicas would each compare only their own clips."""
        strategy = getattr(self, "distribute_strategy", None)  # of TensorFlow's models only
        if strategy is not None and strategy.num_replicas_in_sync > 1:
            raise ValueError(
                "the loss compares all clips of a batch; `tf.distribute` splits a batch between "
                f"{strategy.num_replicas_in_sync} replicas. Train on one device, or on several "
                "with KERAS_BACKEND=jax and keras.distribution.DataParallel"
            )

    def _smooth(self, y):
        num_labels = len(self.labels)
        if len(y.shape) == 1:
            y = ops.one_hot(y, num_labels, dtype="float32")
        rate = self.label_smoothing
        # Independent labels start at this score, see the bias.
        middle = 1 / num_labels if self.exclusive else 1 / (num_labels + 1)
        return (1.0 - rate) * ops.cast(y, "float32") + rate * middle

    def fit(
        self,
        x=None,
        y=None,
        *args,
        callbacks=None,
        validation_data=None,
        sample_weight=None,
        **kwargs,
    ):
        """Train as Keras' `fit`, and renew the label embeddings; see the class.

        Args:
            x: waveforms or log-mels as for `predict`, or a dataset of batches
                `(x, y)` or `(x, y, sample_weight)`, whose waveforms are one window long. Waveforms
                of other lengths are cut into windows, which count as clips of their own.
            y: int labels (B,) in 0 .. K - 1, or float label shares (B, K), rows sum to 1. With
                `targets="sigmoid"`, instead of shares, a target in [0, 1] of each label.
            *args: as in Keras.
            callbacks: as in Keras.
            validation_data: `(x, y)` or `(x, y, sample_weight)` in these forms, or a dataset.
            sample_weight: weight of each clip, (B,).
            **kwargs: as in Keras.

        Raises:
            ValueError: if a waveform or a label is not allowed, the loss is not finite at the end
                of an epoch, or the model was compiled with a loss.
        """
        check_loss_argument(self.loss)
        x, y, sample_weight = self._examples(x, y, sample_weight)
        if isinstance(validation_data, list | tuple):
            inputs, labels, *weights = validation_data
            validation_data = self._examples(inputs, labels, weights[0] if weights else None)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            others = callbacks if isinstance(callbacks, list | tuple) else [callbacks]
            # First, so that the user's callbacks see, and save, renewed embeddings.
            callbacks = [
                ExpectFiniteLoss(),
                BakeLabels(),
                *(callback for callback in others if callback),
            ]
        build_optimizer(self)
        self.refresh_labels()
        self._training_runs = True
        try:
            with weights_kept(self):
                return super().fit(
                    x,
                    y,
                    *args,
                    callbacks=callbacks,
                    validation_data=validation_data,
                    sample_weight=sample_weight,
                    **kwargs,
                )
        finally:
            self._training_runs = False

    def evaluate(self, x=None, y=None, *args, sample_weight=None, **kwargs):
        """Compute the loss and the metrics, as Keras' `evaluate` does.

        Args:
            x: as for `fit`. Each window of a longer waveform counts as a clip.
            y: as for `fit`.
            *args: as in Keras.
            sample_weight: weight of each clip, (B,).
            **kwargs: as in Keras.

        Raises:
            ValueError: if a waveform or a label is not allowed, or the model was compiled with a
                loss.
        """
        check_loss_argument(self.loss)
        x, y, sample_weight = self._examples(x, y, sample_weight)
        if not self._training_runs:
            self.refresh_labels()
        with weights_kept(self):
            return super().evaluate(x, y, *args, sample_weight=sample_weight, **kwargs)

    def _examples(self, x, y, sample_weight) -> Examples:
        x = loaded(x, self.front_end.sample_rate_hz)
        num_labels, exclusive = len(self.labels), self.exclusive
        examples = as_windows(x, y, sample_weight, self.audio_tower, num_labels, exclusive)
        if is_waveforms(examples.x):
            windows = ops.convert_to_numpy(examples.x)
            return examples._replace(x=self.audio_tower.inputs_of(windows))
        return examples

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """Predict the probability of each label.

        Args:
            x: float mono waveforms in [-1, 1] at the front end's sample rate: (B, samples), or a
                list of B arrays of any lengths or paths of sound files, see `load_audio`. A
                waveform shorter than a window is repeated to fill it. A longer one is cut into
                adjoining windows, the last aligned to its end, and their probabilities are
                averaged. Or float32 log-mels (B, num_frames, num_mels) in decibels, or a dataset
                of batches of single windows, as for `fit`.
            batch_size: windows per batch; 32 if not given.
            verbose: as in Keras.
            steps: batches to draw from a dataset.
            callbacks: as in Keras.

        Returns:
            float32 (B, K); rows sum to 1 unless `targets="sigmoid"`.

        Raises:
            ValueError: if a waveform is empty, not float, not finite or far outside [-1, 1], or a
                file cannot be read.
        """
        options = {"verbose": verbose, "steps": steps, "callbacks": callbacks}
        if groups := file_groups(x):
            return np.concatenate([self.predict(g, batch_size, **options) for g in groups])
        x = loaded(x, self.front_end.sample_rate_hz)
        self._expect(waveforms=is_waveforms(x))
        self.refresh_labels()
        if not is_waveforms(x):
            return self.scores(self._logits(x, batch_size, options))
        windows, owners = self.audio_tower.windows_of(x)
        if not len(windows):
            return np.zeros((0, len(self.labels)), np.float32)
        logits = self._logits(self.audio_tower.inputs_of(windows), batch_size, options)
        return mean_by_owner(self.scores(logits), owners, owners[-1] + 1)

    def _logits(self, x, batch_size, options) -> FloatArray:
        with weights_kept(self):
            return super().predict(x, batch_size=batch_size, **options)

    def encode_audio(self, x, batch_size=None, verbose=0) -> FloatArray:
        """Encode clips.

        Args:
            x: clips, in the forms that `predict` accepts. The windows of a longer waveform are
                averaged.
            batch_size: windows per batch; 32 if not given.
            verbose: as in Keras.

        Returns:
            float32 unit vectors, (B, C).

        Raises:
            ValueError: as for `predict`.
        """
        if groups := file_groups(x):
            return np.concatenate([self.encode_audio(g, batch_size, verbose) for g in groups])
        x = loaded(x, self.front_end.sample_rate_hz)
        self._expect(waveforms=is_waveforms(x))
        if not is_waveforms(x):
            with weights_kept(self.audio_tower):
                return self.audio_tower.predict(x, batch_size=batch_size, verbose=verbose)
        windows, owners = self.audio_tower.windows_of(x)
        if not len(windows):
            return np.zeros((0, self.audio_tower.embedding_dim), np.float32)
        with weights_kept(self.audio_tower):
            inputs = self.audio_tower.inputs_of(windows)
            vectors = self.audio_tower.predict(inputs, batch_size=batch_size, verbose=verbose)
        mean = mean_by_owner(vectors, owners, owners[-1] + 1)
        return mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)

    def _expect(self, waveforms: bool) -> None:
        """Drop functions traced for the other input rank.

        TensorFlow would otherwise generalise both traces to one of unknown rank.
        """
        waveforms = waveforms and self.audio_tower.takes_waveforms
        if waveforms != self._predicts_waveforms:
            self.predict_function = self.audio_tower.predict_function = None
            self._predicts_waveforms = waveforms

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """Encode texts verbatim, without the prompt.

        Args:
            texts: n texts.

        Returns:
            float32 unit vectors, (n, C).

        Raises:
            ValueError: if a text exceeds the context length or, without a text encoder, the texts
                are not the labels.
        """
        if isinstance(texts, str):
            raise ValueError(f"`texts` must be a sequence of texts. Received: {texts!r}")
        return ops.convert_to_numpy(self._embed_texts(self.tokenizer(texts)))

    def get_config(self) -> dict[str, Any]:
        return {
            "audio_tower": keras.saving.serialize_keras_object(self.audio_tower),
            "text_encoder": keras.saving.serialize_keras_object(self.text_encoder),
            "tokenizer": keras.saving.serialize_keras_object(self.tokenizer),
            "labels": list(self.labels),
            "prompt": self.prompt,
            "targets": self.targets,
            "label_smoothing": self.label_smoothing,
            "random_texts": self.random_texts,
            "token_ids": self._token_ids.tolist(),
            "label_texts": {label: list(texts) for label, texts in self.label_texts.items()},
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        parts = {
            part: keras.saving.deserialize_keras_object(config[part])
            for part in ("audio_tower", "text_encoder", "tokenizer")
        }
        return cls(**{**config, **parts})


class BakeLabels(keras.callbacks.Callback):
    """Renews a model's baked label embeddings during `fit`."""

    def on_test_begin(self, logs=None):
        self.model.bake_labels(whole=False)

    def on_epoch_end(self, epoch, logs=None):
        self.model.bake_labels(whole=False)

    def on_train_end(self, logs=None):
        self.model.bake_labels()


class ExpectFiniteLoss(keras.callbacks.Callback):
    """Ends `fit` after an epoch whose loss is not finite."""

    def on_epoch_end(self, epoch, logs=None):
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss was {loss} in epoch {epoch + 1}. Labels must be from 0 to "
                f"{len(self.model.labels) - 1}, and inputs finite; else the learning rate may be "
                "too high"
            )


def build_optimizer(model: keras.Model) -> None:
    """Create the optimiser's variables before the first step.

    TensorFlow traces a step that creates variables twice, which doubles the start-up time.
    """
    if model.compiled:
        model.optimizer.build(model.trainable_variables)


def sync_weights(model: keras.Model) -> None:
    """Update the model's variables from the state that a training on JAX keeps beside them."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()  # nothing to do outside a training


@contextlib.contextmanager
def weights_kept(model: keras.Model) -> Iterator[None]:
    """Put the weights back if training, evaluation or prediction fails on JAX.

    Keras takes them out of the variables for the first batch, and does not return them.
    """
    held = []
    if keras.backend.backend() == "jax":
        held = [(variable, variable.value) for variable in model.variables]
    try:
        yield
    except BaseException:
        sync_weights(model)
        for variable, value in held:
            if variable._value is None:
                variable.assign(value)
        raise


def _expect_distinct(texts: Sequence[str], token_ids: npt.ArrayLike) -> None:
    """Reject texts that are equal to the tokenizer, such as "Dog" and "dog"."""
    first: dict[bytes, str] = {}
    for text, ids in zip(texts, np.asarray(token_ids), strict=True):
        earlier = first.setdefault(ids.tobytes(), text)
        if earlier != text:
            raise ValueError(
                "`labels` must differ after tokenization, and so must their texts; it may ignore "
                f"case and spaces. Received: {earlier!r} and {text!r}"
            )
