"""What jsonargparse says of a value that is none of several kinds, read as a tree."""

import pytest

from btc_datamodule.cli.unions import Union, find_key, find_meant, find_union

MESSAGE = """\
Parser key "data":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'here.Module'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'here.Module':
        Parser key "pets":
          Does not validate against any of the Union subtypes
          Subtypes: [dict[str, here.Cat | here.Dog], <class 'NoneType'>]
          Errors:
            - Does not validate against any of the Union subtypes
              Subtypes: [<class 'here.Cat'>, <class 'here.Dog'>]
              Errors:
                - Expected a dot import path string: Dog
                - Problem with given class_path 'here.Dog':
                    Parser key "toy":
                      Does not validate against any of the Union subtypes
                      Subtypes: [<class 'here.Ball'>, <class 'str'>, <class 'NoneType'>]
                      Errors:
                        - Expected a dot import path string: Bal
                        - Expected a <class 'str'>
                        - Expected a <class 'NoneType'>
                      Given value type: <class 'dict'>
                      Given value: {'class_path': 'Bal'}
              Given value type: <class 'dict'>
              Given value: {'class_path': 'Dog', 'init_args': {'toy': {'class_path': 'Bal'}}}
            - Expected a <class 'NoneType'>
          Given value type: <class 'dict'>
          Given value: {'a': {'class_path': 'Cat'}, 'rex': {'class_path': 'Dog', 'init_args': \
{'toy': {'class_path': 'Bal'}}}}
    - Expected a <class 'NoneType'>
  Given value type: <class 'jsonargparse._util.NestedArg'>
  Given value: NestedArg(key='pets', val=...)
"""


def find(kinds: str) -> Union:
    found = find_union(MESSAGE, kinds)
    assert found is not None
    return found


def test_a_union_is_found_by_its_kinds_with_what_each_says_and_the_value() -> None:
    found = find("<class 'here.Cat'>")
    assert found.kinds == "<class 'here.Cat'>, <class 'here.Dog'>"
    assert found.problems[0] == "Expected a dot import path string: Dog"
    assert found.problems[1].startswith("Problem with given class_path 'here.Dog':\n  Parser key")
    assert found.value == ("{'class_path': 'Dog', 'init_args': {'toy': {'class_path': 'Bal'}}}")
    assert find_union(MESSAGE, "<class 'here.Cow'>") is None


def test_the_way_goes_down_the_kind_that_was_meant_to_where_none_is() -> None:
    argument, _, union = find_meant(find("dict[str, here.Cat"))
    assert argument == "toy"
    assert union == find("<class 'here.Ball'>")


def test_the_way_ends_at_what_is_wrong_with_the_kind_that_was_meant() -> None:
    wrong = MESSAGE.replace(
        "- Expected a dot import path string: Bal",
        "- Problem with given class_path 'here.Ball':\n"
        "                            Option 'sise' is not accepted",
    )
    union = find_union(wrong, "dict[str, here.Cat")
    assert union is not None
    argument, problem, at = find_meant(union)
    assert argument == "toy"
    assert problem == "Problem with given class_path 'here.Ball':\n  Option 'sise' is not accepted"
    assert at is None


@pytest.mark.parametrize(
    ("whole", "part", "key"),
    [
        (find("dict[str, here.Cat").value, find("<class 'here.Cat'>").value, "rex"),
        ("{'a': 'Cat', 'rex': 'Dgo'}", "Dgo", "rex"),
        ("{'a': 5, 1: 'Dgo'}", "Dgo", "1"),
        ("{'a': 5}", "5", "a"),
        ("{'a': [1, 2]}", "[1, 2]", "a"),
        ("NestedArg(key='rex.toy', val='Bal')", "{'toy': 'Bal'}", "rex"),
        ("something else", "5", ""),
    ],
)
def test_the_key_of_a_value_is_found(whole: str, part: str, key: str) -> None:
    assert find_key(whole, part) == key
