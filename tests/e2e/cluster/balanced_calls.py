"""Runs inside a pod: calls gRPC's health through a headless Service, as a client that balances by itself would.

Argument: the Service's name. The pods' own port is asked for, because a headless Service's addresses are the pods'.
"""

import sys
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

CALLS = 40
POLICY = '{"loadBalancingConfig": [{"round_robin": {}}]}'


def main() -> None:
    """Wait for the first connection, then call; prints how many calls were answered with SERVING."""
    channel = grpc.insecure_channel(f"dns:///{sys.argv[1]}:50051", options=[("grpc.service_config", POLICY)])
    grpc.channel_ready_future(channel).result(timeout=20)
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="marketfeed.v1.MarketData")
    served = 0
    for _ in range(CALLS):
        served += stub.Check(request, timeout=5).status == health_pb2.HealthCheckResponse.SERVING
        time.sleep(0.05)
    print(f"served {served} of {CALLS}")


main()
