"""Layouts: the weight names of each publisher's checkpoints."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Layout:
    """Weight names of one publisher.

    Args:
        name: name for messages.
        prefixes: possible prefixes of all names; a file uses one of them.
        anchor: original name of a weight that identifies the layout.
        renames: substrings of the original names with their replacements, applied in order. Three
            replacements mean that the thirds of a fused weight are stored separately.
        transposed: original names of the weights that are stored transposed.
        unused: patterns of names that are deliberately not read.
    """

    name: str
    prefixes: tuple[str, ...]
    anchor: str
    renames: tuple[tuple[str, str | tuple[str, str, str]], ...] = ()
    transposed: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()

    def keys(self, prefix: str, original: str) -> tuple[str, ...]:
        """Translate an original name to file names: one, or three to concatenate on axis 0."""
        names: tuple[str, ...] = (original,)
        for old, new in self.renames:
            parts = (new,) if isinstance(new, str) else new
            if old in names[0]:
                names = tuple(name.replace(old, part) for name in names for part in parts)
        return tuple(prefix + name for name in names)

    def prefix_in(self, keys: Iterable[str]) -> str | None:
        """Return the prefix used in a file with these names, or None for another layout."""
        names = set(keys)
        found = (prefix for prefix in self.prefixes if self.keys(prefix, self.anchor)[0] in names)
        return next(found, None)

    def is_unused(self, key: str) -> bool:
        """Return whether a name is known but deliberately not read."""
        return any(fnmatchcase(key, pattern) for pattern in self.unused)


# The AudioSet classifier, the front end's tables, which `LogMel` computes, and a counter.
_HTSAT_UNUSED = (
    "head.*",
    "tscam_conv.*",
    "spectrogram_extractor.*",
    "logmel_extractor.*",
    "bn0.num_batches_tracked",
)
_CLAP_UNUSED = (
    "text_branch.*",
    "text_transform.*",
    "text_projection.*",
    "audio_transform.*",
    "audio_projection.*",
    "logit_scale_a",
    "logit_scale_t",
)
_AUDIO_ANCHOR = "patch_embed.proj.weight"
_HUGGING_FACE_HTSAT = (
    ("bn0.", "batch_norm."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    ("attn.qkv.", ("attention.self.query.", "attention.self.key.", "attention.self.value.")),
    ("attn.proj.", "attention.output.dense."),
    ("attn.relative", "attention.self.relative"),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
)

AUDIO_LAYOUTS = (
    Layout(
        name="HTS-AT",
        # Saved by its Lightning module, or as the bare model.
        prefixes=("sed_model.", "module.", ""),
        anchor=_AUDIO_ANCHOR,
        unused=tuple(
            f"{prefix}{pattern}"
            for prefix in ("sed_model.", "module.", "")
            for pattern in _HTSAT_UNUSED
        ),
    ),
    Layout(
        name="LAION-CLAP",
        prefixes=("module.audio_branch.", "audio_branch."),
        anchor=_AUDIO_ANCHOR,
        unused=tuple(
            f"{module}{pattern}"
            for module in ("module.", "")
            for pattern in (*(f"audio_branch.{name}" for name in _HTSAT_UNUSED), *_CLAP_UNUSED)
        ),
    ),
    Layout(
        name="Hugging Face CLAP",
        prefixes=("audio_model.audio_encoder.", "audio_encoder."),
        anchor=_AUDIO_ANCHOR,
        renames=_HUGGING_FACE_HTSAT,
        unused=(
            "audio_model.audio_encoder.batch_norm.num_batches_tracked",
            "audio_encoder.batch_norm.num_batches_tracked",
            "audio_projection.*",
            "text_model.*",
            "text_projection.*",
            "logit_scale_a",
            "logit_scale_t",
        ),
    ),
)

_TEXT_ANCHOR = "token_embedding.weight"
# SemanticAC learns its own scale, from CLIP's initial value.
_LOGIT_SCALE = "logit_scale"

TEXT_LAYOUTS = (
    Layout(
        name="CLIP (OpenAI, open_clip)",
        prefixes=("", "module.", "text."),
        anchor=_TEXT_ANCHOR,
        unused=(
            "visual.*",
            "module.visual.*",
            _LOGIT_SCALE,
            f"module.{_LOGIT_SCALE}",
            # Constants that TorchScript stores with the weights.
            "input_resolution",
            "context_length",
            "vocab_size",
            "attn_mask",
            "transformer.resblocks.*.attn_mask",
        ),
    ),
    Layout(
        name="Hugging Face CLIP",
        prefixes=("",),
        anchor=_TEXT_ANCHOR,
        renames=(
            ("token_embedding", "text_model.embeddings.token_embedding"),
            ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
            ("transformer.resblocks", "text_model.encoder.layers"),
            ("ln_1", "layer_norm1"),
            ("ln_2", "layer_norm2"),
            (
                "attn.in_proj_",
                ("self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."),
            ),
            ("attn.out_proj", "self_attn.out_proj"),
            ("mlp.c_fc", "mlp.fc1"),
            ("mlp.c_proj", "mlp.fc2"),
            ("ln_final", "text_model.final_layer_norm"),
            ("text_projection", "text_projection.weight"),
        ),
        transposed=frozenset({"text_projection"}),
        unused=(
            "vision_model.*",
            "visual_projection.*",
            _LOGIT_SCALE,
            "text_model.embeddings.position_ids",
        ),
    ),
)

_BERT_ANCHOR = "embeddings.LayerNorm.weight"
_BERT_RENAMES = ((".self.qkv.", (".self.query.", ".self.key.", ".self.value.")),)
# The pooler, where pooling does without; heads for other tasks; constants.
_BERT_CONSTANTS = ("embeddings.position_ids", "embeddings.token_type_ids")
_BERT_UNUSED = ("pooler.*", *_BERT_CONSTANTS)
_BERT_PREFIXES = ("", "bert.", "roberta.")
_BERT_ALL_UNUSED = (
    *(f"{prefix}{pattern}" for prefix in _BERT_PREFIXES for pattern in _BERT_UNUSED),
    "cls.*",
    "lm_head.*",
)
# CLAP keeps the body in one module and the MLP in another; both names begin with "text_".
_CLAP_BODY = (
    *("embeddings.word_", "embeddings.position_", "embeddings.token_type_"),
    *("embeddings.LayerNorm", "encoder.layer", "pooler."),
)

BERT_LAYOUTS = (
    Layout(
        name="BERT",
        prefixes=_BERT_PREFIXES,
        anchor=_BERT_ANCHOR,
        renames=_BERT_RENAMES,
        unused=_BERT_ALL_UNUSED,
    ),
    Layout(
        name="BERT of TensorFlow",
        prefixes=_BERT_PREFIXES,
        anchor=_BERT_ANCHOR,
        renames=(
            *_BERT_RENAMES,
            ("LayerNorm.weight", "LayerNorm.gamma"),
            ("LayerNorm.bias", "LayerNorm.beta"),
        ),
        unused=_BERT_ALL_UNUSED,
    ),
    Layout(
        name="Hugging Face CLAP",
        prefixes=("text_",),
        anchor=_BERT_ANCHOR,
        renames=(*_BERT_RENAMES, *((part, f"model.{part}") for part in _CLAP_BODY)),
        unused=(
            *(f"text_model.{pattern}" for pattern in _BERT_UNUSED),
            "audio_model.*",
            "audio_projection.*",
            "logit_scale_a",
            "logit_scale_t",
        ),
    ),
)

# CLAP as a whole. The original names are LAION's, but for the layers of the MLPs.
_CLAP_ANCHOR = f"audio_branch.{_AUDIO_ANCHOR}"

LAION_CLAP = Layout(
    name="LAION-CLAP",
    prefixes=("module.", ""),
    anchor=_CLAP_ANCHOR,
    renames=(
        *_BERT_RENAMES,
        ("projection.linear1.", "projection.0."),
        ("projection.linear2.", "projection.2."),
    ),
    unused=tuple(
        f"{module}{pattern}"
        for module in ("module.", "")
        for pattern in (
            *(f"audio_branch.{name}" for name in _HTSAT_UNUSED),
            *(f"text_branch.{name}" for name in _BERT_CONSTANTS),
            # For training: MLPs of another loss, and the scale from text to audio.
            "audio_transform.*",
            "text_transform.*",
            "logit_scale_t",
        )
    ),
)

CLAP_LAYOUTS = (
    LAION_CLAP,
    Layout(
        name="Hugging Face CLAP",
        prefixes=("",),
        anchor=_CLAP_ANCHOR,
        renames=(
            *_HUGGING_FACE_HTSAT,
            *_BERT_RENAMES,
            ("audio_branch.", "audio_model.audio_encoder."),
            ("text_branch.", "text_model."),
        ),
        unused=(
            "audio_model.audio_encoder.batch_norm.num_batches_tracked",
            *(f"text_model.{name}" for name in _BERT_CONSTANTS),
            "logit_scale_t",
        ),
    ),
)
