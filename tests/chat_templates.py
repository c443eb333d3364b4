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

CHANNELS_CALLS = """\
{%- set ns = namespace(final=-1) %}
{%- for message in messages %}
{%- if message.role == 'assistant' and not message.tool_calls %}{% set ns.final = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- if message.thinking and (loop.last or loop.index0 > ns.final) %}
{{- '<|im_start|>assistant to=self|' + message.thinking + '|over' }}
{%- endif %}
{%- if message.tool_calls %}
{%- set call = message.tool_calls[0].function %}
{{- '<|im_start|>assistant to=' + call.name + '|' + (call.arguments | tojson) + '<|im_end|>' }}
{%- else %}
{{- '<|im_start|>assistant to=user|' + message.content + '<|im_end|>' }}
{%- endif %}
{%- else %}{{ '<|im_start|>' + message.role + '|' + message.content + '<|im_end|>' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}
"""
"""As gpt-oss's: what was thought before a call goes once the final answer is there."""

THINKS_BEFORE_CALLS = """\
{%- if enable_thinking is defined and enable_thinking %}{{ '<|im_start|>system\nthink<|im_end|>\n' }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' }}
{%- if message.tool_calls %}
{%- if message.reasoning_content %}{{ '<thought>\n' + message.reasoning_content + '\n</thought>' }}{% endif %}
{{- 'call ' + message.tool_calls[0].function.name + (message.tool_calls[0].function.arguments | tojson) }}
{%- else %}{{ message.content.split('</thought>')[-1] }}{% endif %}
{{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
"""As Gemma 4's: thinking is written before a call, and not before an answer."""

ALWAYS_OPENS = CHATML.replace("{% if add_generation_prompt %}", "{% if true %}")
"""It opens the next answer whether it is asked to or not."""

NEVER_OPENS = CHATML.partition("{% if add_generation_prompt %}")[0]

IPYTHON = """\
{%- for message in messages %}
{%- if message.role in ['system', 'user', 'assistant', 'ipython'] %}
{{- '<|im_start|>' + message.role + '\n' }}
{%- if message.tool_calls %}{{ message.tool_calls[0].function | tojson }}{% else %}{{ message.content }}{% endif %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
"""The results of calls have another role's name; of several calls it writes the first, and no text next to them."""

ENDS_AT_NEXT = """\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}
"""
"""As GLM-4.5's: an answer ends where the next turn begins, with a token at which the model stops."""

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

EOS_AT_END = CHATML.replace("{% endif %}", "{% else %}{{ '<|endoftext|>' }}{% endif %}")
"""As Phi-3's: the end of sequence stands behind the whole conversation."""

OTHER_LAST_END = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{{ '<|endoftext|>' if loop.last and message['role'] == 'assistant' else '<|im_end|>' }}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As gpt-oss's: only the last answer ends in the token at which the model stops."""

QWEN3_TOOLS = """\
{%- if tools %}{{ '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\n' }}
{%- if message.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}
{%- if not loop.first or message.content %}{{ '\n' }}{% endif %}
{{- '<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}' }}
{{- '\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
"""
"""As Qwen3's: a turn has an empty thinking block only where it is the last one."""

CALLS = QWEN3_TOOLS.replace("<think>\n\n</think>\n\n", "")
TEXT_ARGUMENTS = CALLS.replace("call.function.arguments | tojson", "call.function.arguments")
PYTHON_ARGUMENTS = CALLS.replace("' + call.function.arguments | tojson + '", "' ~ call.function.arguments ~ '")
NINE_LETTER_IDS = CALLS.replace(
    "{{- '<tool_call>",
    "{%- if call.id | length != 9 %}{{ raise_exception('ids have nine letters') }}{% endif %}{{- '<tool_call>",
)
NO_CALLS = QWEN3_TOOLS.replace("in message.tool_calls or []", "in []")
"""As LFM2's: it shows the tools and leaves out the calls."""

NO_SYSTEM = CHATML.replace("{{ '<|im_start|>'", "{% if message['role'] != 'system' %}{{ '<|im_start|>'").replace(
    "{% endfor %}", "{% endif %}{% endfor %}"
)
FIRST_SYSTEM = NO_SYSTEM.replace("message['role'] != 'system'", "message['role'] != 'system' or loop.first")
NO_TOOL_RESULTS = CALLS.replace("<tool_response>\n' + message.content + '", "<tool_response>\n")
PARTS = CHATML.replace("message['content']", "message['content'][0]['text']")
"""As those of models that see: content is a list of parts."""

NAMED = CHATML.replace("message['role']", "(message['name'] or message['role'])")
ASCII = CALLS.replace("tools | tojson", "tools | tojson(ensure_ascii=true)")
SPLITTING = CHATML.replace("message['content']", "message['content'].split('</think>')[-1]")
"""As those that cut thinking off every turn."""

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
