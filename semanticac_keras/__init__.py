"""SemanticAC in Keras 3: audio classification by label texts."""

from edge.inference.frontend import FrontEnd
from semanticac_keras.audio_tower import AudioTower
from semanticac_keras.bert_encoder import BertEncoder
from semanticac_keras.centered_text import CenteredText
from semanticac_keras.checkpoints import (
    CheckpointError,
    load_audio_checkpoint,
    load_sentence_encoder,
    load_text_checkpoint,
)
from semanticac_keras.class_names import read_class_names
from semanticac_keras.class_odds import ClassOdds
from semanticac_keras.class_profile import ClassProfile, NameMixture
from semanticac_keras.class_vectors import ClassIndex, ClassVectors
from semanticac_keras.clip_tokenizer import CLIPTokenizer
from semanticac_keras.cscm import CSCM
from semanticac_keras.export import ExportError, export_tflite
from semanticac_keras.heads import (
    HEADS,
    FlattenDense,
    MeanPooling,
    PooledMLP,
    SeqLSTM,
    SeqTransformer,
)
from semanticac_keras.htsat import HTSATEncoder
from semanticac_keras.log_mel import LogMel
from semanticac_keras.losses import contrastive_loss
from semanticac_keras.pretrained import Pretrained, load_pretrained
from semanticac_keras.semantic_ac import SemanticAC
from semanticac_keras.sound_files import load_audio
from semanticac_keras.spec_augment import SpecAugment
from semanticac_keras.subword_tokenizer import SubwordTokenizer
from semanticac_keras.tagger import Tagger, TaggerError
from semanticac_keras.tagger_tower import EmbeddingMap, TaggerTower
from semanticac_keras.text_encoder import TextEncoder
from semanticac_keras.text_table import TextRows, TextTable
from semanticac_keras.tokenizer import ByteTokenizer

__all__ = [
    "CSCM",
    "HEADS",
    "AudioTower",
    "BertEncoder",
    "ByteTokenizer",
    "CLIPTokenizer",
    "CenteredText",
    "CheckpointError",
    "ClassIndex",
    "ClassOdds",
    "ClassProfile",
    "ClassVectors",
    "EmbeddingMap",
    "ExportError",
    "FlattenDense",
    "FrontEnd",
    "HTSATEncoder",
    "LogMel",
    "MeanPooling",
    "NameMixture",
    "PooledMLP",
    "Pretrained",
    "SemanticAC",
    "SeqLSTM",
    "SeqTransformer",
    "SpecAugment",
    "SubwordTokenizer",
    "Tagger",
    "TaggerError",
    "TaggerTower",
    "TextEncoder",
    "TextRows",
    "TextTable",
    "contrastive_loss",
    "export_tflite",
    "load_audio",
    "load_audio_checkpoint",
    "load_pretrained",
    "load_sentence_encoder",
    "load_text_checkpoint",
    "read_class_names",
]
