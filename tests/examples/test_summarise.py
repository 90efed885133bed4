"""The example's summaries."""

from __future__ import annotations

from examples.fastapi_agent.sample import SAMPLE
from examples.fastapi_agent.summarise import choose, paragraphs, split


def test_sentences_end_where_a_reader_ends_them() -> None:
    text = 'Dr. Hooker read it. "Go on!" he said. J. S. Mill, e.g. In 1844? Yes.\n\nA second part.'
    assert [sentence.text for sentence in split(text)] == [
        "Dr. Hooker read it.",
        '"Go on!" he said.',
        "J. S. Mill, e.g. In 1844?",
        "Yes.",
        "A second part.",
    ]


def test_titles_and_initials_in_the_sample_end_no_sentence() -> None:
    sentences = split(SAMPLE)
    assert len(sentences) == 18
    assert [s.opens_paragraph for s in sentences].count(True) == len(paragraphs(SAMPLE)) == 4
    assert not any(s.text.endswith(("Mr.", "Dr.", "Sir C.", "H.M.S.")) for s in sentences)


def test_the_sentence_that_the_text_is_about_comes_first() -> None:
    text = (
        "It rained. Bees dance to tell other bees where flowers are. The weather was mild. "
        "A dance of bees points to flowers. Somebody had left a window open all night long."
    )
    assert next(choose(text, 1)).text == "Bees dance to tell other bees where flowers are."


def test_a_second_sentence_says_something_new() -> None:
    text = (
        "Bees dance for flowers, and bees dance for water. "
        "Bees dance for flowers, and bees dance for shade. "
        "Keepers harvest honey late in summer, when hives are heavy."
    )
    first, second = choose(text, 2)
    assert (first.position, second.position) == (0, 2)


def test_a_short_text_is_its_own_summary() -> None:
    assert {sentence.position for sentence in choose("One thing. Another thing.", 9)} == {0, 1}


def test_a_text_without_telling_words_is_still_summarised() -> None:
    assert [sentence.text for sentence in choose("It is so. So be it.", 1)] == ["It is so."]
