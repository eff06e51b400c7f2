import re
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from compiler.answers import own_task
from compiler.checkpoints import samples
from compiler.examples import ExampleError
from compiler.training.data import DataError

WORDS = "[PAD] ? [C] [S] who what saw the cat a dog bird . , in tree".split()


@pytest.fixture
def words():
    """One token per word and mark, [C] before and [S] after each text of a pair."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        "[C] $A [S]", "[C] $A [S] $B:1 [S]:1", [("[C]", 2), ("[S]", 3)])
    return made


@pytest.fixture
def write(tmp_path):
    def put(content):
        path = tmp_path / "qa.csv"
        path.write_text(content, encoding="utf-8")
        return path

    return put


def model(kinds=2):
    made = samples.bert()
    segments = np.ones((2, 12), np.float32) if kinds == 2 else None
    return replace(made, embedding=replace(made.embedding, segments=segments))


def table(*rows, columns="question,context,answer"):
    return f"{columns}\n" + "".join(f"{row}\n" for row in rows)


def answers(batch):
    """The words between first and last position of each row, and of which kind they are."""
    return [(" ".join(WORDS[i] for i in ids[first:last + 1]), set(kinds[first:last + 1].tolist()))
            for ids, (first, last), kinds in zip(batch.inputs, batch.labels, batch.segments,
                                                 strict=True)]


PLAIN = table("who saw,the cat saw a dog.,the cat", "what saw the cat,a dog saw the cat,a dog",
              "what,\"in the tree, a bird\",a bird")


def test_first_and_last_token_of_the_answer_are_labels(words, write):
    task = own_task(write(PLAIN), words, model())
    assert (task.kind, task.name, task.classes, task.notes) == ("spans", "qa.csv", (), ())
    assert len(task.train) == 2 and len(task.held_out) == len(task.examples) == 1
    found = answers(task.train) + answers(task.held_out)
    # The words of the question are of another kind: an answer is never looked for there.
    assert sorted(found) == [("a bird", {1}), ("a dog", {1}), ("the cat", {1})]
    assert answers(task.held_out)[0][0] == task.answers[0] == " ".join(
        task.examples[0].context[span[1]:span[2]] for span in task.examples[0].spans[
            task.held_out.labels[0, 0]:task.held_out.labels[0, 1] + 1])


def test_pairs_of_unequal_lengths_are_padded(words, write):
    task = own_task(write(PLAIN), words, model())
    lengths = sorted(len(ids[valid]) for part in (task.train, task.held_out)
                     for ids, valid in zip(part.inputs, part.valid, strict=True))
    assert lengths == [10, 11, 12] and task.train.inputs.shape[1] == 12
    one = task.train
    assert not one.inputs[~one.valid].any() and not one.segments[~one.valid].any()
    assert own_task(write(PLAIN), words, model(1)).train.segments is None


def test_where_an_answer_stands_may_be_said(words, write):
    rows = "what,a cat saw a cat,a cat", "what,a dog saw a dog,a dog"
    task = own_task(write(table(*rows)), words, model())
    assert task.train.labels.tolist() == task.held_out.labels.tolist() == [[3, 4]]
    assert len(task.notes) == 1 and "2 of 2 answers stand several times" in task.notes[0]
    told = table(*(f"{row},{start}" for row, start in zip(rows, (10, ""), strict=True)),
                 columns="question,context,answer,start")
    task = own_task(write(told), words, model())
    assert sorted([*task.train.labels.tolist(), *task.held_out.labels.tolist()]) == [[3, 4], [6, 7]]
    assert "1 of 2 answers" in task.notes[0]


def test_part_of_a_word_is_the_whole_token(words, write):
    task = own_task(write(table("what,the dog saw,og sa", "what,in a tree,tre")), words, model())
    assert sorted(answers(task.train) + answers(task.held_out)) == [
        ("dog saw", {1}), ("tree", {1})]


@pytest.mark.parametrize(("tokens", "left"), [(64, 4), (9, 3), (8, 2)])
def test_answers_that_are_cut_off_are_left_out_and_counted(words, write, tokens, left):
    """A cut through an answer's middle loses it, too."""
    task = own_task(write(table(
        "who,the cat saw a dog in the tree,the tree", "who,a dog saw a dog,a dog saw a",
        "who,a cat saw,cat", "who,the cat saw a bird,saw a bird")), words, model(), tokens)
    assert len(task.train) + len(task.held_out) == left
    assert task.train.inputs.shape[1] <= tokens
    lost = [note for note in task.notes if "left out" in note]
    assert len(lost) == (left < 4)
    assert not lost or f"{4 - left} of 4 questions are left out: --tokens {tokens} cuts" in lost[0]
    assert all(len(found.split()) > 1 or found == "cat" for found, _ in answers(task.train))


def test_whole_contexts_are_held_out(words, write):
    rows = [f"{who} saw,the cat saw a {what},the cat" for who in ("who", "what")
            for what in [*["dog"] * 3, *["bird"] * 4, *["tree"] * 17]]
    task = own_task(write(table(*rows)), words, model())
    sides = [{tuple(ids[-3:]) for ids in part.inputs} for part in (task.train, task.held_out)]
    # 48 questions: an eighth is 6, which one context has.
    assert len(task.held_out) == 6 and not sides[0] & sides[1]
    assert {example.context for example in task.examples} == {"the cat saw a dog"}
    assert task.answers == ("the cat",) * 6


def test_texts_with_labels_are_classes(words, write):
    task = own_task(write("label,text\na,cat\na,dog\nb,tree\nb,bird\n"), words, model())
    assert task.kind == "classes" and task.classes == ("a", "b")


BOTH = ("must have the columns text and label, or question, context and answer, or text and "
        "labels, or text, but its first line has {}")


@pytest.mark.parametrize(("content", "message"), [
    ("", BOTH.format("nothing")),
    (table("a,b", columns="question,answer"), BOTH.format("question, answer")),
    (table(), "must hold rows below its header, but has none"),
    (table("who,cat,cat", "who,cat"), "line 3: answer must not be empty"),
    (table("who,cat,cat", "who, ,cat"), "line 3: context must not be empty"),
    (table(" ,cat,cat"), "line 2: question must not be empty"),
    (table("who,cat,cat", "who,a dog,the dog", "who,cat,Cat"),
     "line 3: the answer must stand in its context as it is, but 'the dog' does not; 2 of 3 do "
     "not"),
    (table("who,a dog,dog,-2", columns="question,context,answer,start"),
     "line 2: start must be the number of the context's character .*, from 0, not '-2'"),
    (table("who,a dog,dog,1", columns="question,context,answer,start"),
     "line 2: at character start = '1' of the context the answer 'dog' must stand, not ' do'"),
    (table(f"who,a dog,dog,{'9' * 5000}", columns="question,context,answer,start"),
     "line 2: at character start = '999"),
    (table("who,cat,cat", "what,cat,cat"), "must have at least two different contexts"),
    (table("who,the cat saw a dog in the tree,tree", "who,a dog saw the cat,the cat"),
     "must hold answers that --tokens 6 leaves, but all 2 are cut off")])
def test_what_cannot_be_trained_on_is_one_line(words, write, content, message):
    with pytest.raises(DataError, match=message) as caught:
        own_task(write(content), words, model(), 6)
    assert "\n" not in str(caught.value) and "qa.csv" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_tokens_that_leave_no_room_or_are_too_many_are_refused(words, write):
    with pytest.raises(ExampleError, match=re.escape("tokens must leave room for more than the "
                                                     "marks")):
        own_task(write(PLAIN), words, model(), 2)
    long = table(f"who,{'a ' * 40}cat,cat", "who,cat,cat")
    with pytest.raises(ExampleError, match="line 2 has 45 tokens, and random BERT takes at most "
                                           "32; --tokens 32 cuts"):
        own_task(write(long), words, model())
