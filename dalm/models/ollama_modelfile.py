"""Write the Modelfile by which Ollama serves a generator with the prompt of its training.

Ollama reads no Jinja but templates of the Go language. A system message is a passage and the user
message the question; without a system message the user message is the whole prompt.
"""

from dalm.models.generator import Generator
from dalm.models.prompt_frame import leading_token

_RESERVED = ('"""', "{{", "}}")
"""What texts of a template can't hold."""


def modelfile_of(generator: Generator) -> str | None:
    """Return a Modelfile for the generator's folder; None if Ollama can't write its prompt."""
    texts, template = generator.texts, generator.template
    opening = texts.opening
    if generator.is_chat and leading_token(generator.tokenizer) is not None:
        opening = opening.removeprefix(generator.tokenizer.bos_token)  # Ollama writes one itself
    start = opening.removesuffix(template.instruction)
    answer = texts.answer.rstrip(" ")
    turn = texts.answer.removeprefix(template.around_question[1]).rstrip(" ")
    end = generator.tokenizer.convert_ids_to_tokens(generator.frame.end)
    pieces = (opening, texts.passage, texts.passage_end, texts.query, answer, end)
    if any(reserved in piece for piece in pieces for reserved in _RESERVED):
        return None
    composed = (
        f"{opening}{texts.passage}{{{{ .System }}}}{texts.passage_end}"
        f"{texts.query}{{{{ .Prompt }}}}{answer}"
    )
    whole = f"{start}{{{{ .Prompt }}}}{turn}"
    return (
        "FROM .\n"
        f'TEMPLATE """{{{{ if .System }}}}{composed}{{{{ else }}}}{whole}{{{{ end }}}}"""\n'
        f'PARAMETER stop "{end}"\n'
        "PARAMETER temperature 0\n"
        f"PARAMETER num_ctx {generator.max_length}\n"
    )
