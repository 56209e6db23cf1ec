"""Makes expected.json: each template of this folder rendered by Jinja2, set up as transformers sets it up.

    pip install jinja2
    python make.py
"""

import json
import pathlib
import re
from datetime import datetime

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
CHATS = {
    "question": [("user", "What is gravity?")],
    "system": [("system", "Be brief."), ("user", "Hi")],
    "turns": [("user", "1 + 1?"), ("assistant", "2"), ("user", "Sure?")],
    "spaces": [("system", " Be brief.\n"), ("user", "  two spaces  \n"), ("assistant", "\n\nyes \n"), ("user", " \tok")],
    "empty": [("user", "")],
    "think": [("user", "a </think> b"), ("assistant", "<think>\nhm\n</think>\nyes"), ("user", "ok")],
    "markup": [("user", "<b>\"quoted\" & 'so'</b> {{ 7 * 7 }} {% raw %} \\n é 日本 😀")],
}


def raise_exception(message):
    raise TemplateError(message)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
environment.filters["tojson"] = lambda x, ensure_ascii=False, indent=None, separators=None, sort_keys=False: json.dumps(
    x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
environment.globals["raise_exception"] = raise_exception

expected = {}
for path in sorted(HERE.glob("*.jinja")):
    source = path.read_text()
    # transformers' marks of what is learnt, which write nothing.
    template = environment.from_string(re.sub(r"{%(-?) *(end)?generation *(-?)%}", r"{#\1 \3#}", source))
    expected[path.stem] = cases = []
    for name, chat in CHATS.items():
        for prompt in [False, True]:
            messages = [{"role": role, "content": content} for role, content in chat]
            # A date only in some cases: what a template writes without one is its own, or that of LLaMA 3.1 if it has none.
            now = datetime(2026, 11, 23, 8, 30) if prompt else datetime(2024, 7, 26)
            extra = {"strftime_now": now.strftime} if prompt or "strftime_now is defined" not in source else {}
            try:
                text = template.render(
                    messages=messages, add_generation_prompt=prompt, tools=None, documents=None,
                    bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>", **extra,
                )
            except TemplateError:
                text = None
            cases.append({"chat": name, "messages": messages, "add_generation_prompt": prompt, "text": text})

(HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
