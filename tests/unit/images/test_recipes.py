"""What images are made of agrees with their Dockerfiles."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from imagebuild.recipes import BASE, RECIPES, TOOLCHAIN, Recipe, binary, reference, wanted

ROOT = Path(__file__).parents[3]
OURS = [recipe for recipe in RECIPES if recipe.sources]
every_recipe = pytest.mark.parametrize("recipe", [*RECIPES, binary("traefik")], ids=lambda recipe: recipe.name)
our_recipe = pytest.mark.parametrize("recipe", OURS, ids=lambda recipe: recipe.name)


def dockerfile(recipe: Recipe) -> str:
    """Its Dockerfile with continued lines joined and remarks left out."""
    text = (ROOT / recipe.dockerfile).read_text()
    return re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")


def test_what_an_image_is_made_from_is_built_before_it() -> None:
    """Each once, in an order that works, and nothing that was not asked for."""
    assert [recipe.name for recipe in wanted(["kafka"])] == [BASE, "kafka"]
    names = [recipe.name for recipe in wanted([])]
    assert len(names) == len(set(names)) == len(RECIPES)
    for recipe in wanted([]):
        assert all(names.index(base) < names.index(recipe.name) for base in recipe.bases.values())
    with pytest.raises(KeyError, match="nothing"):
        wanted(["kafka", "nothing"])


@every_recipe
def test_arguments_are_those_of_the_dockerfile(recipe: Recipe) -> None:
    """A misspelt build argument would be ignored by the build, and a default base would be asked of a registry."""
    text = dockerfile(recipe)
    declared = set(re.findall(r"^ARG (\w+)", text, flags=re.MULTILINE))
    assert set(recipe.bases) | set(recipe.arguments) <= declared
    bases = set(re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE)) - {"scratch"}
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", text, flags=re.MULTILINE))
    assert {base.strip("${}") for base in bases - stages} == set(recipe.bases)


@every_recipe
def test_what_a_dockerfile_copies_decides_the_image(recipe: Recipe) -> None:
    """A file that is copied and not among the sources could change without the image being built again."""
    copies = re.findall(r"^(?:COPY|ADD) (?!--from)(.+)$", dockerfile(recipe), flags=re.MULTILINE)
    copied = {name for line in copies for name in line.split()[:-1]}
    own = {path.name for path in (ROOT / recipe.dockerfile).parent.iterdir()} if not recipe.sources else set()
    known = set(recipe.sources) | set(recipe.parts) | own
    extra = {"EXTRA": "services"}
    for name in copied:
        path = re.sub(r"\$\{(\w+)\}", lambda match: extra[match[1]], name).rstrip("/")
        assert any(path == one or path.startswith(one + "/") for one in known), name


@our_recipe
def test_our_images_keep_the_rules(recipe: Recipe) -> None:
    """Locked packages only, a user that is not root, labels, bases that an argument chooses."""
    text = dockerfile(recipe)
    installs = re.findall(r"(?:uv pip|pip) install[^&\n]*", text)
    assert installs
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    final = text.rpartition("\nFROM ")[2]
    assert final.startswith("${PYTHON_IMAGE}")
    assert "\nUSER 65532:65532\n" in final
    for label in ("version", "revision", "source", "licenses"):
        assert f"org.opencontainers.image.{label}=" in final
    assert "pip install" not in final


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("marketfeed", ["marketfeed", "health"]),
        ("marketfeed-operator", ["python", "-m", "marketfeed_operator", "health"]),
    ],
)
def test_an_image_asks_itself_for_its_health(name: str, command: list[str]) -> None:
    """By a program that is in it anyway, not by a tool that would have to be brought."""
    text = dockerfile(next(recipe for recipe in RECIPES if recipe.name == name))
    (asked,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", text, flags=re.MULTILINE)
    assert json.loads(asked)[: len(command)] == command


def test_names_are_local_ones() -> None:
    """No registry is ever asked for them."""
    assert reference(TOOLCHAIN) == "localhost/marketfeed-toolchain:dev"
