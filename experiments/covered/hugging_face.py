"""The Flax models of Hugging Face transformers (the last of them are in 4.57), small and with random weights."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from covered.case import Case, images, opened, tokens, vectors
from dwalign.frontends import transformers as frontend

NEEDS = ("transformers",)

VOCABULARY = 40
TEXT = tokens(8, VOCABULARY)
MASK = np.ones_like(TEXT)
# what most configurations call these sizes
ENCODER = dict(
    vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=40, type_vocab_size=2,
)  # fmt: skip
SEQUENCES = dict(
    vocab_size=VOCABULARY, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
    decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=40,
)  # fmt: skip
T5 = dict(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2, num_heads=4)
LLAMA = ENCODER | dict(num_key_value_heads=2, head_dim=8)


def model(kind: str, config: str, options: dict[str, Any], inputs: dict[str, Any]) -> Callable[[], Case]:
    """`Flax<kind>` with a `<config>Config`, called with inputs by name."""

    def build() -> Case:
        transformers = open_transformers()
        made = getattr(transformers, f"{config}Config")(**options)
        return case(getattr(transformers, f"Flax{kind}"), made, inputs)

    return build


def open_transformers() -> Any:
    os.environ |= {"USE_TORCH": "0", "USE_TF": "0", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    import transformers

    return transformers


def case(kind: Any, config: Any, inputs: dict[str, Any], **options: Any) -> Case:
    """A model of transformers as a function of its weights (and batch statistics) and of the inputs by name."""
    with frontend.older_names():
        try:
            built = kind(config, _do_init=False, **options)
        except ValueError:
            # two models in one are made with their weights or not at all
            built = kind(config, seed=0, **options)
    return opened(built, inputs)


def composite(
    kind: str, first: tuple[str, dict], second: tuple[str, dict], inputs: dict[str, Any]
) -> Callable[[], Case]:
    """Two models in one: an encoder with a decoder, or two towers."""

    def build() -> Case:
        transformers = open_transformers()
        one, two = (getattr(transformers, f"{name}Config")(**options) for name, options in (first, second))
        if kind == "VisionTextDualEncoder":
            config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(one, two, projection_dim=24)
            return case(transformers.FlaxVisionTextDualEncoderModel, config, inputs, **SIZES[kind])
        config = getattr(transformers, f"{kind}Config").from_encoder_decoder_configs(one, two)
        return case(getattr(transformers, f"Flax{kind}Model"), config, inputs, **SIZES.get(kind, {}))

    return build


SIZES: dict[str, dict[str, Any]] = {
    "VisionTextDualEncoder": dict(input_shape=((1, 1), (1, 16, 16, 3))),
    "SpeechEncoderDecoder": dict(input_shape=((1, 400), (1, 1))),
}

BOTH = dict(input_ids=TEXT, attention_mask=MASK)
PAIRED = dict(input_ids=TEXT, decoder_input_ids=TEXT[:, :6])
PICTURES = images(16, first=True)
VIT = {k: ENCODER[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")}
VIT |= dict(image_size=16, patch_size=4)
TOWER = VIT | dict(projection_dim=24)
CLIP = dict(
    text_config=ENCODER | dict(projection_dim=24, eos_token_id=2, bos_token_id=1),
    vision_config=TOWER,
    projection_dim=24,
)
SPEECH = {k: v for k, v in ENCODER.items() if k not in ("max_position_embeddings", "type_vocab_size")} | dict(
    conv_dim=(16, 16), conv_kernel=(5, 3), conv_stride=(5, 2), num_feat_extract_layers=2, num_conv_pos_embeddings=6,
    num_conv_pos_embedding_groups=4, mask_time_prob=0.0, do_stable_layer_norm=True, feat_extract_norm="layer",
)  # fmt: skip
STAGES = dict(embedding_size=16, hidden_sizes=[16, 24], depths=[1, 2])
GPT2 = dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=40)
DECODER = GPT2 | dict(add_cross_attention=True)

MODELS: dict[str, Callable[[], Case]] = {
    "ALBERT": model("AlbertModel", "Albert", ENCODER | dict(embedding_size=16), BOTH),
    "BART": model("BartModel", "Bart", SEQUENCES, PAIRED),
    "BART with language head": model("BartForConditionalGeneration", "Bart", SEQUENCES, PAIRED),
    "BEiT": model("BeitModel", "Beit", VIT | dict(use_relative_position_bias=True), dict(pixel_values=PICTURES)),
    "BERT": model("BertModel", "Bert", ENCODER, BOTH),
    "BERT for pretraining": model("BertForPreTraining", "Bert", ENCODER, BOTH),
    "BigBird": model("BigBirdModel", "BigBird", ENCODER | dict(attention_type="original_full"), BOTH),
    "BigBird, sparse": model(
        "BigBirdModel",
        "BigBird",
        ENCODER | dict(attention_type="block_sparse", block_size=4, num_random_blocks=1, max_position_embeddings=64),
        dict(input_ids=tokens(48, VOCABULARY), attention_mask=np.ones((2, 48), np.int32)),
    ),
    "Blenderbot": model("BlenderbotModel", "Blenderbot", SEQUENCES, PAIRED),
    "BlenderbotSmall": model("BlenderbotSmallModel", "BlenderbotSmall", SEQUENCES, PAIRED),
    "Bloom": model("BloomModel", "Bloom", dict(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4), BOTH),
    "CLIP": model("CLIPModel", "CLIP", CLIP, dict(input_ids=TEXT, pixel_values=PICTURES)),
    "DINOv2": model("Dinov2Model", "Dinov2", VIT | dict(mlp_ratio=2), dict(pixel_values=PICTURES)),
    "DistilBERT": model(
        "DistilBertModel",
        "DistilBert",
        dict(vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40),
        BOTH,
    ),
    "ELECTRA": model("ElectraModel", "Electra", ENCODER | dict(embedding_size=16), BOTH),
    "encoder-decoder of BERT and GPT-2": composite("EncoderDecoder", ("Bert", ENCODER), ("GPT2", DECODER), PAIRED),
    "Gemma": model("GemmaModel", "Gemma", LLAMA, BOTH),
    "GPT-2": model("GPT2Model", "GPT2", GPT2, BOTH),
    "GPT-Neo": model(
        "GPTNeoModel",
        "GPTNeo",
        dict(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            intermediate_size=48,
            max_position_embeddings=40,
            window_size=4,
        ),
        BOTH,
    ),
    "GPT-J": model("GPTJModel", "GPTJ", GPT2 | dict(rotary_dim=4), BOTH),
    "Llama": model("LlamaForCausalLM", "Llama", LLAMA, BOTH),
    "LongT5, local": model("LongT5Model", "LongT5", T5 | dict(encoder_attention_type="local", local_radius=3), PAIRED),
    "LongT5, global": model(
        "LongT5Model",
        "LongT5",
        T5 | dict(encoder_attention_type="transient-global", local_radius=3, global_block_size=4),
        PAIRED,
    ),
    "Marian": model("MarianModel", "Marian", SEQUENCES | dict(pad_token_id=0, decoder_start_token_id=1), PAIRED),
    "mBART": model("MBartModel", "MBart", SEQUENCES, PAIRED),
    "Mistral": model("MistralModel", "Mistral", LLAMA | dict(sliding_window=4), BOTH),
    "mT5": model("MT5Model", "MT5", T5, PAIRED),
    "OPT": model(
        "OPTModel",
        "OPT",
        dict(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            ffn_dim=48,
            max_position_embeddings=40,
            word_embed_proj_dim=16,
        ),
        BOTH,
    ),
    "Pegasus": model("PegasusModel", "Pegasus", SEQUENCES, PAIRED),
    "RegNet": model("RegNetModel", "RegNet", STAGES | dict(groups_width=4), dict(pixel_values=images(32, first=True))),
    "ResNet": model("ResNetModel", "ResNet", STAGES, dict(pixel_values=images(32, first=True))),
    "RoBERTa": model("RobertaModel", "Roberta", ENCODER, BOTH),
    "RoBERTa with layer norm first": model("RobertaPreLayerNormModel", "RobertaPreLayerNorm", ENCODER, BOTH),
    "RoFormer": model("RoFormerModel", "RoFormer", ENCODER, BOTH),
    "speech encoder-decoder": composite(
        "SpeechEncoderDecoder",
        ("Wav2Vec2", SPEECH),
        ("GPT2", DECODER),
        dict(inputs=vectors(2, 400), decoder_input_ids=TEXT),
    ),
    "T5": model("T5Model", "T5", T5, PAIRED),
    "T5, gated, with language head": model(
        "T5ForConditionalGeneration", "T5", T5 | dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False), PAIRED
    ),
    "vision encoder-decoder": composite(
        "VisionEncoderDecoder", ("ViT", VIT), ("GPT2", DECODER), dict(pixel_values=PICTURES, decoder_input_ids=TEXT)
    ),
    "vision-text dual encoder": composite(
        "VisionTextDualEncoder", ("ViT", VIT), ("Bert", ENCODER), dict(input_ids=TEXT, pixel_values=PICTURES)
    ),
    "ViT": model("ViTForImageClassification", "ViT", VIT, dict(pixel_values=PICTURES)),
    "wav2vec 2.0": model("Wav2Vec2Model", "Wav2Vec2", SPEECH, dict(input_values=vectors(2, 400))),
    "Whisper": model(
        "WhisperModel",
        "Whisper",
        {k: v for k, v in SEQUENCES.items() if k != "max_position_embeddings"}
        | dict(
            num_mel_bins=8,
            max_source_positions=8,
            max_target_positions=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        ),
        dict(input_features=vectors(2, 8, 16), decoder_input_ids=TEXT),
    ),
    "XGLM": model(
        "XGLMModel",
        "XGLM",
        dict(
            vocab_size=VOCABULARY, d_model=32, num_layers=2, attention_heads=4, ffn_dim=48, max_position_embeddings=40
        ),
        BOTH,
    ),
    "XLM-R": model("XLMRobertaModel", "XLMRoberta", ENCODER, BOTH),
}
