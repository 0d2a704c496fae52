"""What the API server wrote down: who created, changed and deleted what, and what service accounts read."""

import json

WRITES = ("create", "update", "patch", "delete", "deletecollection")


class Entry:
    """One finished request."""

    def __init__(self, raw):
        self.raw = raw
        self.user = raw.get("user", {}).get("username", "")
        self.agent = raw.get("userAgent", "")
        self.verb = raw["verb"]
        self.code = raw.get("responseStatus", {}).get("code")
        self.time = raw.get("stageTimestamp", "")
        self.uri = raw.get("requestURI", "")
        reference = raw.get("objectRef", {})
        self.group = reference.get("apiGroup", "")
        self.resource = reference.get("resource", "")
        self.subresource = reference.get("subresource", "")
        self.namespace = reference.get("namespace", "")
        self.name = reference.get("name", "")

    @property
    def writes(self):
        return self.verb in WRITES

    @property
    def kind(self):
        """The resource as roles name it: `pods/status`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    def __repr__(self):
        where = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.time} {self.user} {self.verb} {self.kind}.{self.group or 'core'} {where} {self.code}"


class Audit:
    """The log, read from where one likes: `mark = audit.mark(); …; audit.entries(mark)`."""

    def __init__(self, path):
        self.path = path

    def mark(self):
        """The place where the log ends now."""
        return self.path.stat().st_size if self.path.exists() else 0

    def entries(self, mark=0, user=None, writes=None, resource=None):
        """Requests since the mark, each once. `user` is a whole name, or the beginning of one that ends in `*`."""
        if not self.path.exists():
            return []
        with open(self.path, "rb") as file:
            file.seek(mark)
            data = file.read()
        seen, found = set(), []
        # The last line may be half written.
        for line in data.split(b"\n")[:-1]:
            if not line:
                continue
            raw = json.loads(line)
            # A watch is told of twice, when it begins and when it ends.
            if raw["auditID"] in seen:
                continue
            seen.add(raw["auditID"])
            entry = Entry(raw)
            if user is not None and not (entry.user.startswith(user[:-1]) if user.endswith("*") else entry.user == user):
                continue
            if writes is not None and entry.writes != writes:
                continue
            if resource is not None and entry.resource != resource:
                continue
            found.append(entry)
        return found

    def used(self, user, mark=0):
        """What a user was let do: a set of (group, resource as in roles, verb)."""
        let = [e for e in self.entries(mark, user=user) if e.resource and e.code is not None and e.code != 403]
        # Server-side apply of what is not there yet is one request, a patch, and takes the right to create as well.
        made = {(e.group, e.kind, "create") for e in let if e.verb == "patch" and e.code == 201}
        return {(e.group, e.kind, e.verb) for e in let} | made

    def refused(self, user, mark=0):
        """What a user was not let do."""
        return [e for e in self.entries(mark, user=user) if e.code == 403]
