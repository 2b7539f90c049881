"""The requests of etcd's calls with one answer, with the fields of its protocol files (rpc.proto).

Every field has its default, which also stands for null and for an absent one. `| None` marks
messages whose absence means something.
"""

import msgspec

from http_api.etcd.decode import ProtoEnum, Uint64

# -- kv -------------------------------------------------------------------------------------


class SortOrder(ProtoEnum):
    """NONE is ascending too if anything but the key is sorted by."""

    NONE = 0
    ASCEND = 1
    DESCEND = 2

    @staticmethod
    def proto_name() -> str:
        return "etcdserverpb.RangeRequest.SortOrder"


class SortTarget(ProtoEnum):
    """What a range is sorted by."""

    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4

    @staticmethod
    def proto_name() -> str:
        return "etcdserverpb.RangeRequest.SortTarget"


class RangeRequest(msgspec.Struct):
    """`range_end` "" means the one key, one zero byte means no end."""

    key: bytes = b""
    range_end: bytes = b""
    limit: int = 0
    revision: int = 0
    sort_order: SortOrder = SortOrder.NONE
    sort_target: SortTarget = SortTarget.KEY
    serializable: bool = False
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0


class PutRequest(msgspec.Struct):
    """`ignore_value` and `ignore_lease` keep what the key has."""

    key: bytes = b""
    value: bytes = b""
    lease: int = 0
    prev_kv: bool = False
    ignore_value: bool = False
    ignore_lease: bool = False


class DeleteRangeRequest(msgspec.Struct):
    """Like RangeRequest."""

    key: bytes = b""
    range_end: bytes = b""
    prev_kv: bool = False


class CompareResult(ProtoEnum):
    """How the key's field must relate to the operand."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3

    @staticmethod
    def proto_name() -> str:
        return "etcdserverpb.Compare.CompareResult"


class CompareTarget(ProtoEnum):
    """Which field is compared, and which operand counts."""

    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4

    @staticmethod
    def proto_name() -> str:
        return "etcdserverpb.Compare.CompareTarget"


class CompareMessage(msgspec.Struct):
    """Only the operand that belongs to `target` counts."""

    result: CompareResult = CompareResult.EQUAL
    target: CompareTarget = CompareTarget.VERSION
    key: bytes = b""
    version: int = 0
    create_revision: int = 0
    mod_revision: int = 0
    value: bytes = b""
    lease: int = 0
    range_end: bytes = b""


class RequestOp(msgspec.Struct):
    """One of the four."""

    request_range: RangeRequest | None = None
    request_put: PutRequest | None = None
    request_delete_range: DeleteRangeRequest | None = None
    request_txn: "TxnRequest | None" = None


class TxnRequest(msgspec.Struct):
    """If all compares hold then `success`, else `failure`."""

    compare: list[CompareMessage] = []
    success: list[RequestOp] = []
    failure: list[RequestOp] = []


class CompactionRequest(msgspec.Struct):
    """`physical` waits until the space is free; here it is reused without anybody's waiting."""

    revision: int = 0
    physical: bool = False


# -- leases ---------------------------------------------------------------------------------


class LeaseGrantRequest(msgspec.Struct, rename={"ttl": "TTL", "id": "ID"}):
    """`id` 0: the server chooses."""

    ttl: int = 0
    id: int = 0


class LeaseRevokeRequest(msgspec.Struct, rename={"id": "ID"}):
    id: int = 0


class LeaseTimeToLiveRequest(msgspec.Struct, rename={"id": "ID"}):
    id: int = 0
    keys: bool = False


class LeaseLeasesRequest(msgspec.Struct):
    """Has no fields."""


# -- cluster --------------------------------------------------------------------------------


class MemberListRequest(msgspec.Struct):
    linearizable: bool = False


class MemberAddRequest(msgspec.Struct, rename={"peer_urls": "peerURLs", "is_learner": "isLearner"}):
    peer_urls: list[str] = []
    is_learner: bool = False


class MemberUpdateRequest(msgspec.Struct, rename={"id": "ID", "peer_urls": "peerURLs"}):
    id: Uint64 = Uint64(0)
    peer_urls: list[str] = []


class MemberRequest(msgspec.Struct, rename={"id": "ID"}):
    """member/remove and member/promote."""

    id: Uint64 = Uint64(0)


# -- maintenance ----------------------------------------------------------------------------


class AlarmAction(ProtoEnum):
    GET = 0
    ACTIVATE = 1
    DEACTIVATE = 2

    @staticmethod
    def proto_name() -> str:
        return "etcdserverpb.AlarmRequest.AlarmAction"


class AlarmType(ProtoEnum):
    NONE = 0
    NOSPACE = 1
    CORRUPT = 2

    @staticmethod
    def proto_name() -> str:
        return "etcdserverpb.AlarmType"


class AlarmRequest(msgspec.Struct, rename={"member_id": "memberID"}):
    action: AlarmAction = AlarmAction.GET
    member_id: Uint64 = Uint64(0)
    alarm: AlarmType = AlarmType.NONE


class Empty(msgspec.Struct):
    """Calls that take nothing."""


class MoveLeaderRequest(msgspec.Struct, rename={"target_id": "targetID"}):
    target_id: Uint64 = Uint64(0)


class DowngradeAction(ProtoEnum):
    VALIDATE = 0
    ENABLE = 1
    CANCEL = 2

    @staticmethod
    def proto_name() -> str:
        return "etcdserverpb.DowngradeRequest.DowngradeAction"


class DowngradeRequest(msgspec.Struct):
    action: DowngradeAction = DowngradeAction.VALIDATE
    version: str = ""


# -- auth -----------------------------------------------------------------------------------


class PermissionType(ProtoEnum):
    READ = 0
    WRITE = 1
    READWRITE = 2

    @staticmethod
    def proto_name() -> str:
        return "authpb.Permission.Type"


class PermissionMessage(msgspec.Struct, rename={"perm_type": "permType"}):
    perm_type: PermissionType = PermissionType.READ
    key: bytes = b""
    range_end: bytes = b""


class UserAddOptions(msgspec.Struct):
    no_password: bool = False


class UserAddRequest(msgspec.Struct, rename={"hashed_password": "hashedPassword"}):
    name: str = ""
    password: str = ""
    options: UserAddOptions | None = None
    hashed_password: str = ""


class ChangePasswordRequest(msgspec.Struct, rename={"hashed_password": "hashedPassword"}):
    name: str = ""
    password: str = ""
    hashed_password: str = ""


class NamedRequest(msgspec.Struct):
    """user/get, user/delete, role/add."""

    name: str = ""


class CredentialsRequest(msgspec.Struct):
    name: str = ""
    password: str = ""


class UserGrantRequest(msgspec.Struct):
    user: str = ""
    role: str = ""


class UserRevokeRequest(msgspec.Struct):
    name: str = ""
    role: str = ""


class RoleRequest(msgspec.Struct):
    """role/get, role/delete."""

    role: str = ""


class RoleGrantRequest(msgspec.Struct):
    name: str = ""
    perm: PermissionMessage | None = None


class RoleRevokeRequest(msgspec.Struct):
    role: str = ""
    key: bytes = b""
    range_end: bytes = b""
