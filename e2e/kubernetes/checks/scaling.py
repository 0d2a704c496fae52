"""kubectl scale: pods come, and go the lowest slots last; a pod with a stream is drained, not cut."""

from ..procs import Failed, within


def body(checks, sample):
    sample.ready()
    publisher = sample.publish("scaling")
    uids = sample.uids()

    def edges(count):
        def there():
            pods = sample.pods("demo-edge")
            status = sample.pool("demo-edge")["status"]
            if len(pods) != count or status.get("readyReplicas") != count:
                raise Failed(f"{len(pods)} pods: {[p['metadata']['name'] for p in pods]}, status {status}")
            return True
        return lambda: within(90, f"{count} edges", there, every=0.5)

    try:
        sample.kubectl("scale", "epool", "demo-edge", "--replicas=3")
        checks.holds("scaled to 3: three edges are ready", edges(3))
        checks.check("the new one has the lowest free name", "demo-edge-2" in sample.uids("demo-edge"), sorted(sample.uids("demo-edge")))
    finally:
        sample.kubectl("scale", "epool", "demo-edge", "--replicas=2")
    checks.holds("scaled to 2: two edges are left", edges(2))
    after = sample.uids("demo-origin")
    checks.check("the origin was left alone", all(uids[name] == uid for name, uid in after.items()))
    checks.check("the publisher was never cut", publisher.running())
