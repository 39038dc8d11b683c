"""What a runtime is: how a graph becomes its file, and how that file is run without handlens. A new runtime is a new
folder beside this file and a line in `RUNTIMES`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from handlens.errors import InputError, require
from handlens.reporter import QUIET, Reporter
from handlens.runtimes.delegation import Delegation
from handlens.runtimes.device import Program
from handlens.runtimes.engine import Engine, FileEngine, Model, Precision
from handlens.runtimes.int8 import Kernels, Setting
from handlens.runtimes.source import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNREADABLE = 2  # exit code of outside.py


class Runtime(Protocol):
    """
    Attributes:
        name: on the command line.
        suffix: of its file.
        package: what is imported to run it, and the extra that brings it is called as the runtime; "" where the plain
            installation does.
        distribution: the installed package whose version says which runtime this is.
        precisions: in which an export is proved: "fp32" decides, "auto", the runtime's default, informs.
        programs: those that time its files on a device; the first is the one that is recommended.
        int8: settings of its quantizer, in the order in which they are tried.
        reduces_graph: `halve` and `quantize` begin with the graph, not with the float32 file.
        other_kernels: with which an int8 file is tried beside those that this machine takes.
        takes_any_size: a graph may resize inside. One that does not takes images one at a time.
        title: as people call it.
        app: a folder of templates for whoever builds an app: how the file is run, by language (handlens.app).
        runner: a module that imports the runtime and NumPy only, and has a class Model: opens a file, runs it, and
            reads its metadata. Also run where handlens is not installed (outside.py), and copied by apps.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    package: ClassVar[str] = ""
    distribution: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]]
    title: ClassVar[str]
    app: ClassVar[Path]
    runner: ClassVar[Path]
    takes_any_size: ClassVar[bool] = True
    int8: ClassVar[tuple[Setting, ...]] = ()
    reduces_graph: ClassVar[bool] = False
    other_kernels: ClassVar[tuple[Kernels, ...]] = ()
    programs: ClassVar[tuple[Program, ...]] = ()

    def convert(self, source: Source, path: Path, *, report: Reporter = QUIET) -> Delegation | None:
        """Write a graph as this runtime's file or files, with class names and preprocess in its metadata.

        Args:
            report: of a converter that has to be installed first, or takes minutes.

        Returns:
            which operators its fast kernels run; None where a runtime knows no other.

        Raises:
            InputError: the packages for this runtime are not installed, or it cannot take the graph.
        """
        ...

    def halve(self, source: Source, whole: Path, path: Path, *, report: Reporter = QUIET) -> Delegation | None:
        """Write a graph's fp16 form: weights of 16 bits. The arithmetic of Preprocess and the last step stay as
        they are.

        Args:
            whole: the float32 file that `convert` made of it; where `reduces_graph`, there may be none.

        Returns:
            as of `convert`.

        Raises:
            InputError: the packages for it are not installed, or it cannot take the model.
        """
        ...

    def quantize(
        self,
        source: Source,
        whole: Path,
        path: Path,
        *,
        images: NDArray[np.uint8],
        setting: Setting,
        keep_float: Sequence[str] = (),
        report: Reporter = QUIET,
    ) -> Delegation | None:
        """Write a graph's int8 form. The arithmetic of Preprocess and the last step stay in float.

        Args:
            whole: as of `halve`.
            images: (N, height, width, C) uint8, what activations are calibrated with.
            setting: one of `int8`.
            keep_float: modules of the model that are not quantized, as `named_modules` calls them.

        Returns:
            as of `convert`.

        Raises:
            InputError: the packages for it are not installed, or it cannot take the model.
        """
        raise InputError(f"int8 is not available for {self.name}.")

    def open(self, path: Path, *, precision: str = "fp32", threads: int | None = None) -> Model:
        """Its file, ready to run.

        Args:
            threads: None is one per core.

        Raises:
            InputError: the runtime is not installed, or cannot read the file.
        """
        if self.package:
            require(self.package, extra=self.name, what=f"running {path.name}")
        make = import_module(f"{type(self).__module__}.runner").Model
        try:
            made: Model = make(str(path), precision=precision, threads=threads)
        except ValueError as error:
            raise InputError(f"{path} cannot be read: {error}") from None
        return made

    def engine(self, path: Path, *, precision: Precision = "auto", latency: bool = False) -> Engine:
        """Its file as an engine.

        Args:
            latency: tuned for one image at a time, rather than for many.

        Raises:
            InputError: the runtime is not installed, or cannot read the file.
        """
        return FileEngine(lambda threads: self.open(path, precision=precision, threads=threads), latency=latency)

    @property
    def installed(self) -> bool:
        """Whether what runs its files is."""
        return not self.package or find_spec(self.package) is not None

    def missing(self) -> str | None:
        """What would have to be installed before it can convert, in words; None where nothing is missing."""
        return None if self.installed else f"its packages: pip install 'handlens[{self.name}]'"

    def refuses(self, model: str) -> str | None:
        """Why a model of the catalogue does not convert, as a sentence; None where it does."""
        return None

    def files(self, path: Path) -> tuple[Path, ...]:
        """What was written for a path, in the order in which it is to be put in place."""
        return (path,)
