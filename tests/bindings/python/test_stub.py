"""The type stubs say what the package has: names, parameters, fields. mypy's stubtest checks more, but is not
installed everywhere."""

import ast
import dataclasses
import enum
import inspect
import pathlib
import unittest

import dsopt

STUB = ast.parse((pathlib.Path(dsopt.__file__).parent / "__init__.pyi").read_text(encoding="utf-8"))
DEFINITIONS = {node.name: node for node in STUB.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def parameters(node):
    """Names of a stub function's parameters, "*" where keywords begin."""
    arguments = node.args
    names = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    if arguments.vararg:
        names.append("*" + arguments.vararg.arg)
    elif arguments.kwonlyargs:
        names.append("*")
    return names + [argument.arg for argument in arguments.kwonlyargs] + ["**"] * bool(arguments.kwarg)


def actual_parameters(function):
    """The same of a function."""
    names, keywords = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind == parameter.KEYWORD_ONLY and not keywords:
            names.append("*")
        keywords = keywords or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        prefix = {parameter.VAR_POSITIONAL: "*" + parameter.name, parameter.VAR_KEYWORD: "**"}
        names.append(prefix.get(parameter.kind, parameter.name))
    return names


def is_overload(node):
    return any(isinstance(item, ast.Name) and item.id == "overload" for item in node.decorator_list)


def unwrapped(cls, name):
    """The function behind a method, class method or property of a class."""
    found = inspect.getattr_static(cls, name)
    return found.fget if isinstance(found, property) else getattr(found, "__func__", found)


class Stub(unittest.TestCase):
    def test_every_public_name_has_a_type_and_the_other_way_round(self):
        public = {name for name in DEFINITIONS if not name.startswith("_")}
        self.assertEqual(public, set(dsopt.__all__))

    def test_parameters_are_those_of_the_code(self):
        checked = 0
        for name in dsopt.__all__:
            stub, actual = DEFINITIONS[name], getattr(dsopt, name)
            if isinstance(stub, ast.FunctionDef):
                self.assertEqual(parameters(stub), actual_parameters(actual), name)
                continue
            for node in stub.body:
                if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or is_overload(node):
                    continue
                found = actual_parameters(unwrapped(actual, node.name))
                if name == "Chat" and node.name == "__init__":  # passes the keywords of a session on
                    session = actual_parameters(dsopt.Session.__init__)
                    found = found[:-1] + [word for word in session[session.index("*") + 1:] if word not in found]
                self.assertEqual(sorted(parameters(node)), sorted(found), f"{name}.{node.name}")
                checked += 1
        self.assertGreater(checked, 50)

    def test_every_public_method_and_class_is_in_the_stub_and_has_a_docstring(self):
        handle = {node.name for node in DEFINITIONS["_Handle"].body}
        for name in dsopt.__all__:
            actual = getattr(dsopt, name)
            self.assertTrue(actual.__doc__, name)
            if not inspect.isclass(actual) or issubclass(actual, (enum.Enum, Exception)):
                continue
            stub = {node.name for node in DEFINITIONS[name].body if hasattr(node, "name")}
            stub |= {node.target.id for node in DEFINITIONS[name].body if isinstance(node, ast.AnnAssign)}
            if dataclasses.is_dataclass(actual):
                self.assertEqual(stub, {field.name for field in dataclasses.fields(actual)}, name)
                continue
            members = {member for member in dir(actual) if not member.startswith("_")}
            self.assertEqual(members - handle - stub, set(), name)
            for member in members:
                self.assertTrue(inspect.getdoc(getattr(actual, member)) or member in ("model", "runtime", "session",
                                                                                      "finish"), f"{name}.{member}")

    def test_enumerators_are_those_of_the_code(self):
        for name in ("Finish", "EventKind", "DeviceKind", "DType", "Precision"):
            values = {node.targets[0].id: node.value.value for node in DEFINITIONS[name].body}
            self.assertEqual(values, {item.name: item.value for item in getattr(dsopt, name)}, name)
