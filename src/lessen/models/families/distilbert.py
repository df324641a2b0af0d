"""DistilBERT."""

from __future__ import annotations

from lessen.models.encoders import Encoder

FAMILY = Encoder(
    name="distilbert",
    model_types=("distilbert",),
    head=("pre_classifier", "classifier"),
    fields={"layers": "n_layers", "hidden_size": "dim", "intermediate_size": "hidden_dim", "heads": "n_heads"},
    dropouts=("dropout", "attention_dropout", "seq_classif_dropout"),
    list_path="transformer.layer",
    attention="attention",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    up="ffn.lin1",
    down="ffn.lin2",
    count="n_heads",
)
