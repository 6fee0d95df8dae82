import pytest

from expedit.data.plain_yaml import MOST_BYTES, read_yaml


def written(tmp_path, text):
    path = tmp_path / "a.yml"
    path.write_text(text)
    return path


def test_plain_values_aliases_and_tuples(tmp_path):
    text = "a: [1, 2.5, yes, text]\nb: &size !!python/tuple [3, 4]\nc: {inner: *size}\n"
    assert read_yaml(written(tmp_path, text)) == {"a": [1, 2.5, True, "text"], "b": (3, 4), "c": {"inner": (3, 4)}}


DOUBLED = "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(64))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: !!python/object/apply:os.getcwd []", "expected plain YAML .* could not determine a constructor"),
        ("a: !!python/name:os.getcwd", "expected plain YAML"),
        ("{[", "expected plain YAML"),
        ("a: 1\n---\nb: 2", "expected plain YAML .* a single document"),
        ("a: \x00", "expected plain YAML"),
        ("[" * 5000, "expected plain YAML"),
        (DOUBLED, "expected plain YAML .* more than 65536 values, its aliases written out"),
        ("a: &a [*a]", "expected plain YAML .* more than"),
        ("[1, 2]", "expected keys and values, got a list"),
        ("", "expected keys and values, got a NoneType"),
        ("{[1]: 2}", "expected plain YAML"),
        ("a: " + "x" * MOST_BYTES, "expected a configuration of at most"),
    ],
)
def test_everything_else_is_one_sentence(tmp_path, text, complaint):
    with pytest.raises(ValueError, match=rf"^[^\n]*a\.yml: [^\n]*{complaint}[^\n]*$"):
        read_yaml(written(tmp_path, text))
