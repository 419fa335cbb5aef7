"""PyTorch networks of sequences: recurrent ones, transformers of PyTorch and of the library `transformers`."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import transformers
from torch import Tensor, nn

from models import Case, images, tokens, vectors

__all__ = ["CASES", "Encoder", "Recurrent", "Words"]

SILENT: dict[str, float] = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
"""GPT-2 without dropout, so that a measurement does not depend on what was dropped."""


class Recurrent(nn.Module):
    """Layers of an LSTM or GRU over a sequence of vectors, and a readout of the last state."""

    def __init__(self, kind: type[nn.RNNBase], features: int = 24, width: int = 64, outputs: int = 10) -> None:
        super().__init__()
        self.layers = kind(features, width, num_layers=2, batch_first=True)
        self.readout = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.layers(x)[0][:, -1])


class Words(nn.Module):
    """A recurrent classifier of sentences: words looked up first."""

    def __init__(self, kind: type[nn.RNNBase], vocabulary: int = 1000, features: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, features)
        self.classify = Recurrent(kind, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.embed(x))


class Encoder(nn.Module):
    """PyTorch's transformer encoder over a sequence of vectors, the norm before or after each block."""

    def __init__(
        self, depth: int, norm_first: bool, features: int = 24, width: int = 128, heads: int = 4, outputs: int = 10
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=norm_first
        )
        last = nn.LayerNorm(width) if norm_first else None
        self.encoder = nn.TransformerEncoder(layer, depth, norm=last, enable_nested_tensor=False)
        # PyTorch copies one layer, so that all would start equal: its documentation says to reset each.
        for parameter in self.encoder.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.readout = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.encoder(self.embed(x)).mean(1))


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=1000,
        n_positions=64,
        n_embd=128,
        n_layer=6,
        n_head=4,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
        **SILENT,
    )
    return transformers.GPT2LMHeadModel(config)


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=1000, max_position_embeddings=64, hidden_size=128, num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=512, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        image_size=32, patch_size=4, hidden_size=128, num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=512, num_labels=10,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


def t5() -> nn.Module:
    config = transformers.T5Config(
        vocab_size=1000, d_model=128, d_kv=32, d_ff=512, num_layers=4, num_heads=4, dropout_rate=0.0, use_cache=False
    )
    return transformers.T5ForConditionalGeneration(config)


def sentences() -> Mapping[str, Any]:
    return {"input_ids": tokens(8, 32, 1000)}


def pictures() -> Mapping[str, Any]:
    return {"pixel_values": images(8, 32)}


def translation() -> Mapping[str, Any]:
    return {"input_ids": tokens(8, 32, 1000), "decoder_input_ids": np.roll(tokens(8, 24, 1000), 1, 0)}


CASES = (
    Case("lstm", "torch", "recurrent", partial(Words, nn.LSTM), partial(tokens, 32, 30, 1000), quick=True),
    Case("gru", "torch", "recurrent", partial(Recurrent, nn.GRU), partial(vectors, 32, 30, 24)),
    *(
        Case(f"transformer {depth} {'pre' if first else 'post'}-norm", "torch", "transformer",
             partial(Encoder, depth, first), partial(vectors, 16, 32, 24), quick=depth == 6)
        for depth in (6, 24) for first in (True, False)
    ),
    Case("gpt2", "torch", "transformer", gpt2, sentences, quick=True),
    Case("bert", "torch", "transformer", bert, sentences),
    Case("vit", "torch", "transformer", vit, pictures),
    Case("t5", "torch", "transformer", t5, translation),
)  # fmt: skip
