"""BERT and encoders with its layers: RoBERTa, XLM-R, CamemBERT, ELECTRA, MPNet's cousins."""

from compiler.checkpoints.family import Family, Head, Plan
from compiler.checkpoints.folder import activation
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES", "NAMES", "PLAIN", "ROBERTA_HEADS", "plan"]

NAMES = {
    "table": "embeddings.word_embeddings", "positions": "embeddings.position_embeddings",
    "segments": "embeddings.token_type_embeddings", "embedding_norm": "embeddings.LayerNorm",
    "query": "encoder.layer.{}.attention.self.query", "key": "encoder.layer.{}.attention.self.key",
    "value": "encoder.layer.{}.attention.self.value",
    "output": "encoder.layer.{}.attention.output.dense",
    "attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "up": "encoder.layer.{}.intermediate.dense", "down": "encoder.layer.{}.output.dense",
    "feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
}
PLAIN = {
    "QuestionAnswering": Head("question answering", "qa_outputs", 2),
    "TokenClassification": Head("token classification", "classifier"),
}
ROBERTA_HEADS = {
    **PLAIN,
    "SequenceClassification": Head(
        "sequence classification", "classifier.out_proj", dense="classifier.dense",
        activation="tanh", pooling="first"),
    "MaskedLM": Head(
        "masked language model", "lm_head.decoder", "vocabulary", "lm_head.dense",
        "lm_head.layer_norm", "gelu", bias_name="lm_head.bias", tied=True, optional=True,
        copies=("lm_head.decoder.bias",)),
}


def plan(settings: Settings, padded: bool = False) -> Plan:
    """``padded``: the rows of positions up to that of the padding's token are of none."""
    settings.require("position_embedding_type", ["absolute"], "absolute")
    settings.require("is_decoder", [False], "false: only encoders are supported")
    width, heads = settings.divided("hidden_size", "num_attention_heads")
    return Plan(
        settings.count("num_hidden_layers"), width, heads, settings.count("intermediate_size"),
        settings.positive("layer_norm_eps", 1e-12), activation(settings),
        vocabulary=settings.count("vocab_size"),
        positions=settings.count("max_position_embeddings"),
        offset=settings.whole("pad_token_id", 1) + 1 if padded else 0,
        segments=settings.count("type_vocab_size", 2),
        table_width=settings.count("embedding_size", width),
        tied=settings.flag("tie_word_embeddings", True))


BERT = Family(
    ("bert",), "BERT", ("Bert",), NAMES, plan, ("bert.", ""), {
        **PLAIN,
        "SequenceClassification": Head(
            "sequence classification", "classifier", dense="bert.pooler.dense", activation="tanh",
            pooling="first"),
        **dict.fromkeys(("MaskedLM", "PreTraining"), Head(
            "masked language model", "cls.predictions.decoder", "vocabulary",
            "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm",
            bias_name="cls.predictions.bias", tied=True, optional=True,
            copies=("cls.predictions.decoder.bias",))),
    }, unused=("pooler.", "cls.", "embeddings.position_ids"))

ROBERTA = Family(
    ("roberta", "xlm-roberta", "camembert"), "RoBERTa", ("Roberta", "XLMRoberta", "Camembert"),
    NAMES, lambda settings: plan(settings, padded=True), ("roberta.", ""), ROBERTA_HEADS,
    unused=("pooler.", "embeddings.position_ids"))

ELECTRA = Family(
    ("electra",), "ELECTRA", ("Electra",),
    NAMES | {"norm_projection": "embeddings_project"}, plan, ("electra.", ""), {
        **PLAIN,
        "SequenceClassification": Head(
            "sequence classification", "classifier.out_proj", dense="classifier.dense",
            activation="gelu", pooling="first"),
        "MaskedLM": Head(
            "masked language model", "generator_lm_head", "vocabulary",
            "generator_predictions.dense", "generator_predictions.LayerNorm", "gelu", tied=True,
            narrow=True, optional=True),
        "PreTraining": Head(
            "token classification", "discriminator_predictions.dense_prediction", 1,
            "discriminator_predictions.dense", optional=True),
    }, unused=("embeddings.position_ids",))

FAMILIES = (BERT, ROBERTA, ELECTRA)
