"""Chat templates of the kinds that models bring, written for these tests.

`<|im_start|>` and `<|im_end|>` stand for every family's own control tokens: the tiny tokenizer knows no others.
"""

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TAGGED = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\n' }}
{%- if message.role == 'assistant' -%}
{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
{%- else -%}
{{ message.content + '<|im_end|>' }}
{%- endif -%}
{{ '\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}
"""

TAGGED_WITHOUT_END = TAGGED.replace(
    "{{ message.content + '<|im_end|>' }}{% endgeneration %}",
    "{{ message.content }}{% endgeneration %}{{ '<|im_end|>' }}",
)

LLAMA3 = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
{%- set system = messages[0]['content'] | trim %}{% set messages = messages[1:] %}
{%- else %}{% set system = '' %}{% endif %}
{%- if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}{% else %}{% set today = '?' %}{% endif %}
{{- 'system\n\nToday Date: ' + today + '\n\n' + system + '<|im_end|>' }}
{%- if tools is not none %}
{{- '<|im_start|>user\n\nAnswer with a call of one of these functions:\n' }}
{%- for tool in tools %}{{ tool | tojson(indent=4) + '\n' }}{% endfor %}
{{- '<|im_end|>' }}
{%- endif %}
{%- for message in messages %}
{%- if message.tool_calls is defined %}
{%- set call = message.tool_calls[0].function %}
{{- '<|im_start|>assistant\n\n{"name": "' + call.name + '", "parameters": ' }}
{{- (call.arguments | tojson) + '}<|im_end|>' }}
{%- else %}
{{- '<|im_start|>' + message['role'] + '\n\n' + message['content'] | trim + '<|im_end|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}
"""

QWEN3 = """\
{%- set ns = namespace(last=messages|length - 1, open=true) %}
{%- for message in messages[::-1] %}
{%- if ns.open and message.role == 'user' %}{% set ns.open = false %}{% set ns.last = messages|length - loop.index %}
{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- set content = message.content %}{% set thinking = '' %}
{%- if '</think>' in content %}
{%- set thinking = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\n') %}
{%- endif %}
{{- '<|im_start|>assistant\n' }}
{%- if loop.index0 > ns.last %}{{ '<think>\n' + thinking + '\n</think>\n\n' }}{% endif %}
{{- content + '<|im_end|>\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""

QWEN3_SWITCH = QWEN3.replace(
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
)
"""A way to ask without thinking: the prompt has the empty block."""

OPENS_THINKING = """\
{%- for message in messages %}
{%- set content = message.content.split('</think>')[-1] if message.role == 'assistant' else message.content %}
{{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}
"""
"""The prompt opens a block that the template does not write for a given answer, and cuts from the content."""

CHANNELS = """\
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- if 'thinking' in message and loop.last %}
{{- '<|im_start|>assistant to=self|' + message.thinking + '|over' }}
{%- endif %}
{{- '<|im_start|>assistant to=user|' + message.content + '<|im_end|>\n' }}
{%- else %}{{ '<|im_start|>' + message.role + '|' + message.content + '<|im_end|>\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}
"""
"""Thinking and answer go to channels of their own; the thinking is a field of the message."""

GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant') }}
{%- endif %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<|im_start|>' + role + '\n' + message['content'] | trim + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}
"""

NO_END = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)

FORGETFUL = CHATML.replace("message['content']", "message['content'][:4]")

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
GIANT_RANGE = "{{ range(10 ** 12) | list | length }}"
GREEDY = (
    "{% set ns = namespace(text='x' * 1000) %}{% for a in range(60) %}{% set ns.text = ns.text + ns.text %}{% endfor %}"
)
ESCAPING = "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.system('true') }}"
