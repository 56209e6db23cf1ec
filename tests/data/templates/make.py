"""Makes expected.json: each template of this folder rendered by Jinja2, set up as transformers sets it up.

    pip install jinja2
    python make.py
"""

import json
import pathlib

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
environment.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
environment.globals["raise_exception"] = raise_exception

expected = {}
for path in sorted(HERE.glob("*.jinja")):
    template = environment.from_string(path.read_text())
    expected[path.stem] = cases = []
    for name, chat in CHATS.items():
        for prompt in [False, True]:
            messages = [{"role": role, "content": content} for role, content in chat]
            # A date only in some cases: what a template writes without one is its own.
            extra = {"strftime_now": lambda _format: "23 Nov 2026"} if prompt else {}
            try:
                text = template.render(
                    messages=messages, add_generation_prompt=prompt, tools=None, documents=None,
                    bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>", **extra,
                )
            except TemplateError as error:
                text = None
            cases.append({"chat": name, "messages": messages, "add_generation_prompt": prompt, "text": text})

(HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1) + "\n")
