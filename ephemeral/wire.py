"""The wire messages and stubs of protocol v1; the only module that imports generated code."""

from typing import TYPE_CHECKING

from ephemeral.generated.v1.audit_pb2 import AuditEvent, AuditKind, PublishSummary
from ephemeral.generated.v1.audit_pb2_grpc import (
    AuditServiceServicer,
    AuditServiceStub,
    add_AuditServiceServicer_to_server,
)
from ephemeral.generated.v1.boot_config_pb2 import BootConfig, BootContents, BootRequest, ModelSource
from ephemeral.generated.v1.boot_config_pb2_grpc import (
    BootConfigServiceServicer,
    BootConfigServiceStub,
    add_BootConfigServiceServicer_to_server,
)
from ephemeral.generated.v1.counters_pb2 import CounterReport, CounterSummary, OutcomeCount, RequestOutcome
from ephemeral.generated.v1.counters_pb2_grpc import (
    CounterServiceServicer,
    CounterServiceStub,
    add_CounterServiceServicer_to_server,
)
from ephemeral.generated.v1.frame_pb2 import SealedFrame
from ephemeral.generated.v1.inference_pb2 import (
    BuildInfo,
    DescribeRequest,
    DescribeResult,
    EmbedRequest,
    EmbedResult,
    Failure,
    FailureCode,
    GenerateDelta,
    GenerateRequest,
    InferenceRequest,
    InferenceResponse,
    InferenceResult,
    StartupStage,
    Timings,
)
from ephemeral.generated.v1.inference_pb2_grpc import (
    InferenceServiceServicer,
    InferenceServiceStub,
    add_InferenceServiceServicer_to_server,
)
from ephemeral.generated.v1.kms_proxy_pb2 import (
    KmsDecryptRequest,
    KmsDecryptResponse,
    KmsGenerateDataKeyRequest,
    KmsGenerateDataKeyResponse,
)
from ephemeral.generated.v1.kms_proxy_pb2_grpc import (
    KmsProxyServiceServicer,
    KmsProxyServiceStub,
    add_KmsProxyServiceServicer_to_server,
)
from ephemeral.generated.v1.session_pb2 import (
    ClientHello,
    CloseNotice,
    CloseRequest,
    CloseResponse,
    Finished,
    HelloRequest,
    HelloResponse,
    OpenRequest,
    OpenResponse,
    ServedModel,
    ServerHello,
    SessionLimits,
)
from ephemeral.generated.v1.session_pb2_grpc import (
    SessionServiceServicer,
    SessionServiceStub,
    add_SessionServiceServicer_to_server,
)
from ephemeral.generated.v1.storage_pb2 import Chunk, ObjectInfo, ObjectRef, RangeRequest
from ephemeral.generated.v1.storage_pb2_grpc import (
    StorageServiceServicer,
    StorageServiceStub,
    add_StorageServiceServicer_to_server,
)

if TYPE_CHECKING:
    # The same stubs on an asyncio channel: types that exist for type checkers only, hence the explicit re-exports.
    from ephemeral.generated.v1.audit_pb2_grpc import AuditServiceAsyncStub as AuditServiceAsyncStub  # noqa: PLC0414
    from ephemeral.generated.v1.boot_config_pb2_grpc import BootConfigServiceAsyncStub as BootConfigServiceAsyncStub  # noqa: PLC0414
    from ephemeral.generated.v1.counters_pb2_grpc import CounterServiceAsyncStub as CounterServiceAsyncStub  # noqa: PLC0414
    from ephemeral.generated.v1.kms_proxy_pb2_grpc import KmsProxyServiceAsyncStub as KmsProxyServiceAsyncStub  # noqa: PLC0414
    from ephemeral.generated.v1.storage_pb2_grpc import StorageServiceAsyncStub as StorageServiceAsyncStub  # noqa: PLC0414

__all__ = [
    "AuditEvent",
    "AuditKind",
    "AuditServiceServicer",
    "AuditServiceStub",
    "BootConfig",
    "BootConfigServiceServicer",
    "BootConfigServiceStub",
    "BootContents",
    "BootRequest",
    "BuildInfo",
    "Chunk",
    "ClientHello",
    "CloseNotice",
    "CloseRequest",
    "CloseResponse",
    "CounterReport",
    "CounterServiceServicer",
    "CounterServiceStub",
    "CounterSummary",
    "DescribeRequest",
    "DescribeResult",
    "EmbedRequest",
    "EmbedResult",
    "Failure",
    "FailureCode",
    "Finished",
    "GenerateDelta",
    "GenerateRequest",
    "HelloRequest",
    "HelloResponse",
    "InferenceRequest",
    "InferenceResponse",
    "InferenceResult",
    "InferenceServiceServicer",
    "InferenceServiceStub",
    "KmsDecryptRequest",
    "KmsDecryptResponse",
    "KmsGenerateDataKeyRequest",
    "KmsGenerateDataKeyResponse",
    "KmsProxyServiceServicer",
    "KmsProxyServiceStub",
    "ModelSource",
    "ObjectInfo",
    "ObjectRef",
    "OpenRequest",
    "OpenResponse",
    "OutcomeCount",
    "PublishSummary",
    "RangeRequest",
    "RequestOutcome",
    "SealedFrame",
    "ServedModel",
    "ServerHello",
    "SessionLimits",
    "SessionServiceServicer",
    "SessionServiceStub",
    "StartupStage",
    "StorageServiceServicer",
    "StorageServiceStub",
    "Timings",
    "add_AuditServiceServicer_to_server",
    "add_BootConfigServiceServicer_to_server",
    "add_CounterServiceServicer_to_server",
    "add_InferenceServiceServicer_to_server",
    "add_KmsProxyServiceServicer_to_server",
    "add_SessionServiceServicer_to_server",
    "add_StorageServiceServicer_to_server",
]
