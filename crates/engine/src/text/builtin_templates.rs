//! Chat templates by name, for models whose file has none or for a person who wants another one.

/// Name and Jinja source. `trim_blocks` is on: the line break after a block is not text.
pub(super) const BUILT_IN: &[(&str, &str)] =
    &[("chatml", CHATML), ("llama3", LLAMA3), ("llama2", LLAMA2), ("zephyr", ZEPHYR), ("alpaca", ALPACA)];

/// The names of [`BUILT_IN`] for messages.
pub(super) const NAMES: &str = "chatml, llama3, llama2, zephyr, alpaca";

/// SmolLM2, Qwen, OpenHermes.
const CHATML: &str = "\
{% for message in messages %}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}";

/// LLaMA 3 (without the date lines and tools of 3.1 and later).
const LLAMA3: &str = "\
{{ bos_token }}
{%- for message in messages %}
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}";

/// LLaMA 2 chat, from Meta's `llama/generation.py` (`chat_completion`).
const LLAMA2: &str = "\
{% set system = '' %}
{% if messages[0].role == 'system' %}
{% set system = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}
{% set messages = messages[1:] %}
{% endif %}
{% for message in messages %}
{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate user, assistant, user, ...') }}
{% endif %}
{% if message.role == 'user' %}
{{ bos_token + '[INST] ' + (system if loop.first else '') + message.content | trim + ' [/INST]' }}
{%- else %}
{{ ' ' + message.content | trim + ' ' + eos_token }}
{%- endif %}
{% endfor %}";

/// Zephyr, TinyLlama chat.
const ZEPHYR: &str = "\
{% for message in messages %}
{{ '<|' + message.role + '|>\\n' + message.content + eos_token + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>\\n' }}
{%- endif %}";

/// Stanford Alpaca, what LLaMA-Adapter is trained with (`finetuning.py`, PROMPT_DICT). A message of the role `input`
/// after one of the role `user` is the example's input. The answer follows `### Response:` at once, and is not followed
/// by anything but the end token; further turns are this project's own, the data have none.
const ALPACA: &str = "\
{% set ns = namespace(rest = messages) %}
{% if messages[0].role == 'system' %}
{% set ns.rest = messages[1:] %}
{{ messages[0].content + '\\n\\n' }}
{%- elif messages | length > 1 and messages[1].role == 'input' %}
{{ 'Below is an instruction that describes a task, paired with an input that provides further context. ' }}
{{- 'Write a response that appropriately completes the request.\\n\\n' }}
{%- else %}
{{ 'Below is an instruction that describes a task. ' }}
{{- 'Write a response that appropriately completes the request.\\n\\n' }}
{%- endif %}
{% for message in ns.rest %}
{% if message.role == 'user' %}
{{ '### Instruction:\\n' + message.content + '\\n\\n' }}
{%- elif message.role == 'input' %}
{{ '### Input:\\n' + message.content + '\\n\\n' }}
{%- elif message.role == 'assistant' %}
{{ '### Response:' + message.content + eos_token }}
{%- if not loop.last %}{{ '\\n\\n' }}{% endif %}
{% else %}
{{ raise_exception('roles must be system, user, input or assistant') }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '### Response:' }}
{%- endif %}";
