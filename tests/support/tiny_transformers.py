"""Tiny Hugging Face models with random weights, written as `save_pretrained` does; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEXT = (
    "the train was late again i love this city berlin and paris are nice anna lives in rome food is bad good very"
    " example about travel cooking politics sport . , !"
)


def save_tokenizer(folder: Path, *, most: int = 32) -> Any:
    """Write a tokenizer of whole words, as BERT's is built; gives it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: place for place, word in enumerate([*special, *dict.fromkeys(TEXT.split())])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=most,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    fast.save_pretrained(folder)
    return fast


def save_model(folder: Path, kind: str, labels: tuple[str, ...] = (), **config: Any) -> Any:
    """Write a BERT of the class `kind`, such as BertForTokenClassification, with its tokenizer; gives the model."""
    import torch
    import transformers

    tokenizer = save_tokenizer(folder)
    torch.manual_seed(7)
    # Larger first weights than BERT's own: answers to different texts then differ.
    settings = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
        **({"id2label": dict(enumerate(labels)), "label2id": {b: a for a, b in enumerate(labels)}} if labels else {}),
        **config,
    )
    model = getattr(transformers, kind)(settings).eval()
    model.save_pretrained(folder)
    return model


def save_sentence_transformer(folder: Path, *, normalize: bool = True, **pooling: Any) -> Any:
    """Write a BERT with the files that sentence-transformers adds; gives the model."""
    model = save_model(folder, "BertModel")
    kinds = ["Transformer", "Pooling", "Normalize"][: 3 if normalize else 2]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(zip(kinds, paths, strict=False))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling or {"pooling_mode_mean_tokens": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16}))
    return model
