"""Runs the Tiltfile in a Starlark interpreter, with stand-ins for Tilt's functions that judge what they are given.

The stand-ins have the signatures of Tilt's API (docs.tilt.dev/api.html), so an argument that Tilt does not know is an
error here, too. Files that are named must exist, `helm` renders the real chart, and resources must be made of objects
that were given to `k8s_yaml`.
"""

from __future__ import annotations

import inspect
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import starlark
import yaml
from tests.charts.rendering import ROOT, Object, program

EXTENSIONS = {"ext://restart_process": ("docker_build_with_restart",)}
_STRUCTS = """
config = struct(define_string = config_define_string, define_bool = config_define_bool, parse = config_parse)
"""


@dataclass
class Tilt:
    """What a Tiltfile asked for. `arguments` are those of `tilt up -- …`."""

    arguments: Object = field(default_factory=dict)
    contexts: list[str] = field(default_factory=list)
    images: dict[str, Object] = field(default_factory=dict)
    objects: list[Object] = field(default_factory=list)
    kinds: dict[str, Object] = field(default_factory=dict)
    resources: dict[str, Object] = field(default_factory=dict)
    locals: dict[str, Object] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)

    def run(self, text: str) -> Tilt:
        """Evaluate a Tiltfile. Raises starlark.StarlarkError, also for what a stand-in refuses."""
        dialect = starlark.Dialect.extended()
        glob = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
        module = starlark.Module()
        for name in (name for name in dir(self) if name.startswith("tilt_")):
            module.add_callable(name.removeprefix("tilt_"), _checked(getattr(self, name)))
        starlark.eval(module, starlark.parse("prelude", _STRUCTS, dialect), glob)
        loader = starlark.FileLoader(lambda path: self._extension(path, glob, dialect))
        starlark.eval(module, starlark.parse("Tiltfile", text, dialect), glob, loader)
        return self

    def _extension(self, path: str, glob: starlark.Globals, dialect: starlark.Dialect) -> starlark.FrozenModule:
        module = starlark.Module()
        for name in EXTENSIONS[path]:
            module.add_callable(f"stand_in_{name}", _checked(getattr(self, f"tilt_{name}")))
            starlark.eval(module, starlark.parse(path, f"{name} = stand_in_{name}\n", dialect), glob)
        return module.freeze()

    # Settings

    def tilt_version_settings(self, check_updates: bool = True, constraint: str = "") -> None:
        assert constraint

    def tilt_allow_k8s_contexts(self, contexts: Any) -> None:
        self.contexts += [contexts] if isinstance(contexts, str) else contexts

    def tilt_update_settings(
        self,
        max_parallel_updates: int = 3,
        k8s_upsert_timeout_secs: int = 30,
        suppress_unused_image_warnings: Any = None,
    ) -> None:
        assert k8s_upsert_timeout_secs > 0

    def tilt_ci_settings(self, k8s_grace_period: str = "", timeout: str = "", readiness_timeout: str = "") -> None:
        assert timeout.endswith("m")

    def tilt_config_define_string(self, name: str, args: bool = False, usage: str = "") -> None:
        self.declared.add(name)

    def tilt_config_define_bool(self, name: str, args: bool = False, usage: str = "") -> None:
        self.declared.add(name)

    def tilt_config_parse(self) -> Object:
        assert self.arguments.keys() <= self.declared
        return self.arguments

    # Images

    def tilt_docker_build(
        self,
        ref: str,
        context: str,
        build_args: Any = None,
        dockerfile: str = "",
        dockerfile_contents: str = "",
        live_update: Any = (),
        match_in_env_vars: bool = False,
        ignore: Any = (),
        only: Any = (),
        entrypoint: Any = (),
        target: str = "",
        ssh: Any = "",
        network: str = "",
        secret: Any = "",
        extra_tag: Any = "",
        container_args: Any = None,
        cache_from: Any = (),
        pull: bool = False,
        platform: str = "",
        extra_hosts: Any = (),
    ) -> None:
        assert bool(dockerfile) != bool(dockerfile_contents), "one of dockerfile and dockerfile_contents"
        text = dockerfile_contents or (ROOT / dockerfile).read_text()
        for path in only:
            assert (ROOT / context / path).exists(), f"{ref}: only names {path}, which is not there"
        self.images[ref] = {
            "text": text,
            "only": list(only),
            "live_update": list(live_update),
            "entrypoint": entrypoint,
        }

    def tilt_docker_build_with_restart(
        self,
        ref: str,
        context: str,
        entrypoint: Any,
        live_update: Any,
        base_suffix: str = "",
        restart_file: str = "",
        trigger: Any = None,
        exit_policy: str = "restart",
        **options: Any,
    ) -> None:
        assert live_update, "an image that restarts without live updates makes no sense"
        self.tilt_docker_build(ref, context, live_update=live_update, entrypoint=entrypoint, **options)

    def tilt_sync(self, local_path: str, remote_path: str) -> Object:
        assert (ROOT / local_path).exists(), f"sync names {local_path}, which is not there"
        assert remote_path.startswith("/")
        return {"sync": local_path, "to": remote_path}

    # Objects

    def tilt_helm(
        self,
        pathToChartDir: str,
        name: str = "",
        namespace: str = "",
        values: Any = (),
        set: Any = (),
        kube_version: str = "",
        skip_crds: bool = False,
    ) -> str:
        options = [part for value in values for part in ("-f", str(ROOT / value))]
        options += [part for value in set for part in ("--set", value)]
        command = [program("helm"), "template", name, str(ROOT / pathToChartDir), "-n", namespace, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tilt_decode_yaml_stream(self, yaml_text: str) -> list[Any]:
        return [one for one in yaml.safe_load_all(yaml_text) if one]

    def tilt_encode_yaml(self, obj: Any) -> str:
        return yaml.safe_dump(obj)

    def tilt_encode_yaml_stream(self, objs: Any) -> str:
        return yaml.safe_dump_all(objs)

    def tilt_k8s_yaml(self, yaml: Any, allow_duplicates: bool = False) -> None:
        found = self.tilt_decode_yaml_stream(yaml)
        assert found
        self.objects += found

    def tilt_k8s_kind(
        self,
        kind: str,
        api_version: str = "",
        image_json_path: Any = (),
        image_object: Any = None,
        pod_readiness: str = "",
    ) -> None:
        assert pod_readiness in ("", "wait", "ignore")
        self.kinds[kind] = {"api_version": api_version, "image": image_json_path}

    def tilt_k8s_resource(
        self,
        workload: str = "",
        new_name: str = "",
        port_forwards: Any = (),
        extra_pod_selectors: Any = (),
        trigger_mode: Any = None,
        resource_deps: Any = (),
        objects: Any = (),
        auto_init: bool = True,
        pod_readiness: str = "",
        links: Any = (),
        labels: Any = (),
        discovery_strategy: str = "",
    ) -> None:
        there = {f"{one['metadata']['name']}:{one['kind'].lower()}" for one in self.objects}
        workloads = {
            one["metadata"]["name"]
            for one in self.objects
            if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job")
        }
        assert workload or (new_name and objects), "a resource is a workload, or has a name and objects"
        assert not workload or workload in workloads, f"there is no workload {workload} among {sorted(workloads)}"
        assert set(objects) <= there, f"{set(objects) - there} were not given to k8s_yaml"
        assert discovery_strategy in ("", "default", "selectors-only")
        assert pod_readiness in ("", "wait", "ignore")
        self._resource(new_name or workload, resource_deps, labels, port_forwards, workload)
        self.resources[new_name or workload] |= {"objects": list(objects), "selectors": list(extra_pod_selectors)}

    def tilt_port_forward(
        self, local_port: int, container_port: int | None = None, name: str = "", link_path: str = "", host: str = ""
    ) -> Object:
        return {"local": local_port, "container": container_port or local_port}

    def tilt_local_resource(
        self,
        name: str,
        cmd: Any = "",
        deps: Any = (),
        trigger_mode: Any = None,
        resource_deps: Any = (),
        ignore: Any = (),
        auto_init: bool = True,
        serve_cmd: Any = "",
        cmd_bat: Any = "",
        serve_cmd_bat: Any = "",
        allow_parallel: bool = False,
        links: Any = (),
        tags: Any = (),
        env: Any = None,
        serve_env: Any = None,
        readiness_probe: Any = None,
        dir: str = "",
        serve_dir: str = "",
        labels: Any = (),
    ) -> None:
        for path in (*deps, dir, serve_dir):
            assert (ROOT / path).exists(), f"{name} names {path}, which is not there"
        self._resource(name, resource_deps, labels, (), "")
        self.locals[name] = {"cmd": cmd, "serve_cmd": serve_cmd, "env": serve_env}

    def _resource(self, name: str, needs: Any, labels: Any, forwards: Any, workload: str) -> None:
        assert name not in self.resources, f"two resources are called {name}"
        assert set(needs) <= self.resources.keys(), (
            f"{name} waits for {set(needs) - self.resources.keys()}, unknown so far"
        )
        assert labels, f"{name} is in no group"
        self.resources[name] = {"needs": list(needs), "forwards": list(forwards), "workload": workload}

    def tilt_link(self, url: str, name: str = "") -> Object:
        return {"url": url}

    def tilt_probe(
        self,
        initial_delay_secs: int = 0,
        timeout_secs: int = 1,
        period_secs: int = 10,
        success_threshold: int = 1,
        failure_threshold: int = 3,
        exec: Any = None,
        http_get: Any = None,
        tcp_socket: Any = None,
    ) -> Object:
        assert sum(action is not None for action in (exec, http_get, tcp_socket)) == 1
        return {"probe": http_get}

    def tilt_http_get_action(self, port: int, host: str = "localhost", scheme: str = "http", path: str = "/") -> Object:
        return {"port": port}


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with a message that names it when its arguments do not fit."""
    signature = inspect.signature(function)

    def call(*arguments: Any, **options: Any) -> Any:
        try:
            signature.bind(*arguments, **options)
        except TypeError as error:
            raise TypeError(f"{function.__name__.removeprefix('tilt_')}: {error}") from error
        return function(*arguments, **options)

    return call


def tiltfile() -> str:
    """The Tiltfile of this tree."""
    return Path(ROOT, "Tiltfile").read_text()
