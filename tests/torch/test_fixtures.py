"""The tiny models of the other tests are what they should be."""


def test_the_tiny_models_load_and_their_tokenizer_round_trips(tiny_llama, tiny_qwen3):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    for folder in (tiny_llama, tiny_qwen3):
        model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert 200_000 < model.num_parameters() < 600_000
        assert tokenizer.decode(tokenizer("My card – 😀").input_ids) == "My card – 😀"
        assert "<|im_start|>assistant" in tokenizer.chat_template
        assert model.config.vocab_size == len(tokenizer)
