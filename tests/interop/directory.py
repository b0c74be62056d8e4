"""A SCIM client and a SCIM conformance tester of others against a running node.

Run by run.py; by itself: directory.py URL TOKEN.
"""

import sys

import httpx2
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import PatchOp, PatchOperation
from scim2_tester import Status, check_server


def connect(url, token):
    http = httpx2.Client(base_url=f"{url}/scim/v2", headers={"Authorization": f"Bearer {token}"})
    return SyncSCIMClient(http)


def tested(url, token):
    """What the tester does with every attribute of every resource; what went wrong, a line each."""
    results = check_server(connect(url, token))
    # Skipped: what the service says that it does not do.
    wrong = [result for result in results if result.status not in (Status.SUCCESS, Status.SKIPPED, Status.ACCEPTABLE)]
    passed = sum(result.status == Status.SUCCESS for result in results)
    lines = [f"{result.title} ({result.resource_type}): {result.reason}"[:400] for result in wrong]
    # A tester that finds nothing to test passes everything.
    return lines if passed > 40 or lines else [f"only {passed} checks were made"]


def lived(url, token):
    """Somebody's whole life in the directory, by a client that validates what it sends and what it gets."""
    scim = connect(url, token)
    scim.discover()
    Person = scim.get_resource_model("User")
    user = Person(user_name="interop-carla", external_id="interop-7")
    user = scim.create(user)
    wrong = []

    def expect(what, found, wanted):
        if found != wanted:
            wrong.append(f"{what}: {found!r}, not {wanted!r}")

    expect("created active", user.active, True)
    user.title = "Buyer"
    user = scim.replace(user)
    expect("replaced", user.title, "Buyer")
    leave = PatchOp[Person](operations=[PatchOperation(op=PatchOperation.Op.replace_, path="active", value=False)])
    user = scim.modify(Person, user.id, leave)
    expect("deactivated", user.active, False)
    found = scim.query(Person)
    names = [one.user_name for one in found.resources or []]
    expect("listed", "interop-carla" in names, True)
    scim.delete(Person, user.id)
    gone = scim.query(Person, user.id, raise_scim_errors=False)
    expect("gone", getattr(gone, "status", None), 404)
    return wrong


if __name__ == "__main__":
    failed = tested(*sys.argv[1:3]) + lived(*sys.argv[1:3])
    print("\n".join(failed) or "nothing went wrong")
    sys.exit(bool(failed))
