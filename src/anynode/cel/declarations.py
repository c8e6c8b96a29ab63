"""What functions there are: every overload of the 1.36 base environment with the types it takes and gives.

The table is read once, when the first environment is made. A line is function, overload, ``.`` for a member or ``-``
for a global, argument types and result; capitals alone are type parameters. The order is cel-go's: the first overload
that fits gives an expression its type. Source: cel-go ``common/stdlib/standard.go``, ``cel/library.go``, ``ext``;
apiserver ``pkg/cel/library``, 1.36.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

from anynode.cel import types
from anynode.cel.types import Type

_TABLE = """
!_ logical_not - (bool) bool
-_ negate_double - (double) double
-_ negate_int64 - (int) int
@in in_list - (A, list(A)) bool
@in in_map - (A, map(A, B)) bool
@not_strictly_false not_strictly_false - (bool) bool
@sortByAssociatedKeys list_int_sortByAssociatedKeys . (list(T), list(int)) list(T)
@sortByAssociatedKeys list_uint_sortByAssociatedKeys . (list(T), list(uint)) list(T)
@sortByAssociatedKeys list_double_sortByAssociatedKeys . (list(T), list(double)) list(T)
@sortByAssociatedKeys list_bool_sortByAssociatedKeys . (list(T), list(bool)) list(T)
@sortByAssociatedKeys list_google.protobuf.Duration_sortByAssociatedKeys . (list(T), list(duration)) list(T)
@sortByAssociatedKeys list_google.protobuf.Timestamp_sortByAssociatedKeys . (list(T), list(timestamp)) list(T)
@sortByAssociatedKeys list_string_sortByAssociatedKeys . (list(T), list(string)) list(T)
@sortByAssociatedKeys list_bytes_sortByAssociatedKeys . (list(T), list(bytes)) list(T)
_!=_ not_equals - (A, A) bool
_%_ modulo_int64 - (int, int) int
_%_ modulo_uint64 - (uint, uint) uint
_&&_ logical_and - (bool, bool) bool
_*_ multiply_double - (double, double) double
_*_ multiply_int64 - (int, int) int
_*_ multiply_uint64 - (uint, uint) uint
_+_ add_bytes - (bytes, bytes) bytes
_+_ add_double - (double, double) double
_+_ add_duration_duration - (duration, duration) duration
_+_ add_duration_timestamp - (duration, timestamp) timestamp
_+_ add_timestamp_duration - (timestamp, duration) timestamp
_+_ add_int64 - (int, int) int
_+_ add_list - (list(A), list(A)) list(A)
_+_ add_string - (string, string) string
_+_ add_uint64 - (uint, uint) uint
_-_ subtract_double - (double, double) double
_-_ subtract_duration_duration - (duration, duration) duration
_-_ subtract_int64 - (int, int) int
_-_ subtract_timestamp_duration - (timestamp, duration) timestamp
_-_ subtract_timestamp_timestamp - (timestamp, timestamp) duration
_-_ subtract_uint64 - (uint, uint) uint
_/_ divide_double - (double, double) double
_/_ divide_int64 - (int, int) int
_/_ divide_uint64 - (uint, uint) uint
_==_ equals - (A, A) bool
_?._ select_optional_field - (dyn, string) optional(V)
_?_:_ conditional - (bool, A, A) A
_[?_] list_optindex_optional_int - (list(V), int) optional(V)
_[?_] optional_list_optindex_optional_int - (optional(list(V)), int) optional(V)
_[?_] map_optindex_optional_value - (map(K, V), K) optional(V)
_[?_] optional_map_optindex_optional_value - (optional(map(K, V)), K) optional(V)
_[_] index_list - (list(A), int) A
_[_] index_map - (map(A, B), A) B
_[_] optional_list_index_int - (optional(list(V)), int) optional(V)
_[_] optional_map_index_value - (optional(map(K, V)), K) optional(V)
_||_ logical_or - (bool, bool) bool
add quantity_add . (Quantity, Quantity) Quantity
add quantity_add_int . (Quantity, int) Quantity
allowed decision_allowed . (Decision) bool
asApproximateFloat quantity_get_float . (Quantity) double
asInteger quantity_get_int . (Quantity) int
bool bool_to_bool - (bool) bool
bool string_to_bool - (string) bool
bytes bytes_to_bytes - (bytes) bytes
bytes string_to_bytes - (string) bytes
cel.@mapInsert @mapInsert_map_key_value - (map(K, V), K, V) map(K, V)
cel.@mapInsert @mapInsert_map_map - (map(K, V), map(K, V)) map(K, V)
charAt string_char_at_int . (string, int) string
check pathcheck_check . (PathCheck, string) Decision
check resourcecheck_check . (ResourceCheck, string) Decision
cidr string_to_cidr - (string) CIDR
compareTo quantity_compare_to . (Quantity, Quantity) int
compareTo semver_compare_to . (Semver, Semver) int
contains contains_string . (string, string) bool
containsCIDR cidr_contains_cidr_string . (CIDR, string) bool
containsCIDR cidr_contains_cidr . (CIDR, CIDR) bool
containsIP cidr_contains_ip_string . (CIDR, string) bool
containsIP cidr_contains_ip_ip . (CIDR, IP) bool
distinct list_distinct . (list(T)) list(T)
double double_to_double - (double) double
double int64_to_double - (int) double
double string_to_double - (string) double
double uint64_to_double - (uint) double
duration duration_to_duration - (duration) duration
duration int64_to_duration - (int) duration
duration string_to_duration - (string) duration
dyn to_dyn - (A) dyn
endsWith ends_with_string . (string, string) bool
error decision_error . (Decision) string
errored decision_errored . (Decision) bool
family ip_family . (IP) int
fieldSelector authorizer_fieldselector . (ResourceCheck, string) ResourceCheck
find string_find_string . (string, string) string
findAll string_find_all_string . (string, string) list(string)
findAll string_find_all_string_int . (string, string, int) list(string)
first list_first . (list(V)) optional(V)
flatten list_flatten . (list(list(T))) list(T)
flatten list_flatten_int . (list(dyn), int) list(dyn)
format string_format . (string, list(dyn)) string
format.byte format.byte - () NamedFormat
format.date format.date - () NamedFormat
format.datetime format.datetime - () NamedFormat
format.dns1035Label format.dns1035Label - () NamedFormat
format.dns1035LabelPrefix format.dns1035LabelPrefix - () NamedFormat
format.dns1123Label format.dns1123Label - () NamedFormat
format.dns1123LabelPrefix format.dns1123LabelPrefix - () NamedFormat
format.dns1123Subdomain format.dns1123Subdomain - () NamedFormat
format.dns1123SubdomainPrefix format.dns1123SubdomainPrefix - () NamedFormat
format.labelValue format.labelValue - () NamedFormat
format.named format-named - (string) optional(NamedFormat)
format.qualifiedName format.qualifiedName - () NamedFormat
format.uri format.uri - () NamedFormat
format.uuid format.uuid - () NamedFormat
getDate timestamp_to_day_of_month_1_based . (timestamp) int
getDate timestamp_to_day_of_month_1_based_with_tz . (timestamp, string) int
getDayOfMonth timestamp_to_day_of_month . (timestamp) int
getDayOfMonth timestamp_to_day_of_month_with_tz . (timestamp, string) int
getDayOfWeek timestamp_to_day_of_week . (timestamp) int
getDayOfWeek timestamp_to_day_of_week_with_tz . (timestamp, string) int
getDayOfYear timestamp_to_day_of_year . (timestamp) int
getDayOfYear timestamp_to_day_of_year_with_tz . (timestamp, string) int
getEscapedPath url_get_escaped_path . (URL) string
getFullYear timestamp_to_year . (timestamp) int
getFullYear timestamp_to_year_with_tz . (timestamp, string) int
getHost url_get_host . (URL) string
getHostname url_get_hostname . (URL) string
getHours timestamp_to_hours . (timestamp) int
getHours timestamp_to_hours_with_tz . (timestamp, string) int
getHours duration_to_hours . (duration) int
getMilliseconds timestamp_to_milliseconds . (timestamp) int
getMilliseconds timestamp_to_milliseconds_with_tz . (timestamp, string) int
getMilliseconds duration_to_milliseconds . (duration) int
getMinutes timestamp_to_minutes . (timestamp) int
getMinutes timestamp_to_minutes_with_tz . (timestamp, string) int
getMinutes duration_to_minutes . (duration) int
getMonth timestamp_to_month . (timestamp) int
getMonth timestamp_to_month_with_tz . (timestamp, string) int
getPort url_get_port . (URL) string
getQuery url_get_query . (URL) map(string, list(string))
getScheme url_get_scheme . (URL) string
getSeconds timestamp_to_seconds . (timestamp) int
getSeconds timestamp_to_seconds_tz . (timestamp, string) int
getSeconds duration_to_seconds . (duration) int
group authorizer_group . (Authorizer, string) GroupCheck
hasValue optional_hasValue . (optional(V)) bool
indexOf list_a_index_of_int . (list(A), A) int
indexOf string_index_of_string . (string, string) int
indexOf string_index_of_string_int . (string, string, int) int
int int64_to_int64 - (int) int
int double_to_int64 - (double) int
int duration_to_int64 - (duration) int
int string_to_int64 - (string) int
int timestamp_to_int64 - (timestamp) int
int uint64_to_int64 - (uint) int
ip string_to_ip - (string) IP
ip cidr_ip . (CIDR) IP
ip.isCanonical ip_is_canonical - (string) bool
isCIDR is_cidr - (string) bool
isGlobalUnicast ip_is_global_unicast . (IP) bool
isGreaterThan quantity_is_greater_than . (Quantity, Quantity) bool
isGreaterThan semver_is_greater_than . (Semver, Semver) bool
isIP is_ip - (string) bool
isInteger quantity_is_integer . (Quantity) bool
isLessThan quantity_is_less_than . (Quantity, Quantity) bool
isLessThan semver_is_less_than . (Semver, Semver) bool
isLinkLocalMulticast ip_is_link_local_multicast . (IP) bool
isLinkLocalUnicast ip_is_link_local_unicast . (IP) bool
isLoopback ip_is_loopback . (IP) bool
isQuantity is_quantity_string - (string) bool
isSemver is_semver_string - (string) bool
isSemver is_semver_string_bool - (string, bool) bool
isSorted list_int_is_sorted_bool . (list(int)) bool
isSorted list_uint_is_sorted_bool . (list(uint)) bool
isSorted list_double_is_sorted_bool . (list(double)) bool
isSorted list_bool_is_sorted_bool . (list(bool)) bool
isSorted list_duration_is_sorted_bool . (list(duration)) bool
isSorted list_timestamp_is_sorted_bool . (list(timestamp)) bool
isSorted list_string_is_sorted_bool . (list(string)) bool
isSorted list_bytes_is_sorted_bool . (list(bytes)) bool
isURL is_url_string - (string) bool
isUnspecified ip_is_unspecified . (IP) bool
join list_join . (list(string)) string
join list_join_string . (list(string), string) string
labelSelector authorizer_labelselector . (ResourceCheck, string) ResourceCheck
last list_last . (list(V)) optional(V)
lastIndexOf list_a_last_index_of_int . (list(A), A) int
lastIndexOf string_last_index_of_string . (string, string) int
lastIndexOf string_last_index_of_string_int . (string, string, int) int
lists.range lists_range - (int) list(int)
lowerAscii string_lower_ascii . (string) string
major semver_major . (Semver) int
masked cidr_masked . (CIDR) CIDR
matches matches - (string, string) bool
matches matches_string . (string, string) bool
max list_int_max_int . (list(int)) int
max list_uint_max_uint . (list(uint)) uint
max list_double_max_double . (list(double)) double
max list_bool_max_bool . (list(bool)) bool
max list_duration_max_duration . (list(duration)) duration
max list_timestamp_max_timestamp . (list(timestamp)) timestamp
max list_string_max_string . (list(string)) string
max list_bytes_max_bytes . (list(bytes)) bytes
min list_int_min_int . (list(int)) int
min list_uint_min_uint . (list(uint)) uint
min list_double_min_double . (list(double)) double
min list_bool_min_bool . (list(bool)) bool
min list_duration_min_duration . (list(duration)) duration
min list_timestamp_min_timestamp . (list(timestamp)) timestamp
min list_string_min_string . (list(string)) string
min list_bytes_min_bytes . (list(bytes)) bytes
minor semver_minor . (Semver) int
name resourcecheck_name . (ResourceCheck, string) ResourceCheck
namespace resourcecheck_namespace . (ResourceCheck, string) ResourceCheck
optional.none optional_none - () optional(V)
optional.of optional_of - (V) optional(V)
optional.ofNonZeroValue optional_ofNonZeroValue - (V) optional(V)
optional.unwrap optional_unwrap - (list(optional(V))) list(V)
or optional_or_optional . (optional(V), optional(V)) optional(V)
orValue optional_orValue_value . (optional(V), V) V
patch semver_patch . (Semver) int
path authorizer_path . (Authorizer, string) PathCheck
prefixLength cidr_prefix_length . (CIDR) int
quantity string_to_quantity - (string) Quantity
reason decision_reason . (Decision) string
replace string_replace_string_string . (string, string, string) string
replace string_replace_string_string_int . (string, string, string, int) string
resource groupcheck_resource . (GroupCheck, string) ResourceCheck
reverse list_reverse . (list(T)) list(T)
semver string_to_semver - (string) Semver
semver string_bool_to_semver - (string, bool) Semver
serviceAccount authorizer_serviceaccount . (Authorizer, string, string) Authorizer
sets.contains list_sets_contains_list - (list(T), list(T)) bool
sets.equivalent list_sets_equivalent_list - (list(T), list(T)) bool
sets.intersects list_sets_intersects_list - (list(T), list(T)) bool
sign quantity_sign - (Quantity) int
size size_bytes - (bytes) int
size bytes_size . (bytes) int
size size_list - (list(A)) int
size list_size . (list(A)) int
size size_map - (map(A, B)) int
size map_size . (map(A, B)) int
size size_string - (string) int
size string_size . (string) int
slice list_slice . (list(T), int, int) list(T)
sort list_int_sort . (list(int)) list(int)
sort list_uint_sort . (list(uint)) list(uint)
sort list_double_sort . (list(double)) list(double)
sort list_bool_sort . (list(bool)) list(bool)
sort list_google.protobuf.Duration_sort . (list(duration)) list(duration)
sort list_google.protobuf.Timestamp_sort . (list(timestamp)) list(timestamp)
sort list_string_sort . (list(string)) list(string)
sort list_bytes_sort . (list(bytes)) list(bytes)
split string_split_string . (string, string) list(string)
split string_split_string_int . (string, string, int) list(string)
startsWith starts_with_string . (string, string) bool
string string_to_string - (string) string
string bool_to_string - (bool) string
string bytes_to_string - (bytes) string
string double_to_string - (double) string
string duration_to_string - (duration) string
string int64_to_string - (int) string
string timestamp_to_string - (timestamp) string
string uint64_to_string - (uint) string
string ip_to_string - (IP) string
string cidr_to_string - (CIDR) string
strings.quote strings_quote - (string) string
sub quantity_sub . (Quantity, Quantity) Quantity
sub quantity_sub_int . (Quantity, int) Quantity
subresource resourcecheck_subresource . (ResourceCheck, string) ResourceCheck
substring string_substring_int . (string, int) string
substring string_substring_int_int . (string, int, int) string
sum list_int_sum_int . (list(int)) int
sum list_uint_sum_uint . (list(uint)) uint
sum list_double_sum_double . (list(double)) double
sum list_duration_sum_duration . (list(duration)) duration
timestamp timestamp_to_timestamp - (timestamp) timestamp
timestamp int64_to_timestamp - (int) timestamp
timestamp string_to_timestamp - (string) timestamp
trim string_trim . (string) string
type type - (A) type(A)
uint uint64_to_uint64 - (uint) uint
uint double_to_uint64 - (double) uint
uint int64_to_uint64 - (int) uint
uint string_to_uint64 - (string) uint
unwrapOpt optional_unwrapOpt . (list(optional(V))) list(V)
upperAscii string_upper_ascii . (string) string
url string_to_url - (string) URL
validate format-validate . (NamedFormat, string) optional(list(string))
value optional_value . (optional(V)) V
"""
_MUTATION_TABLE = """
jsonpatch.escapeKey string_jsonpatch_escapeKey_string - (string) string
"""
_ORDERINGS = {"_<_": "less", "_<=_": "less_equals", "_>_": "greater", "_>=_": "greater_equals"}
_ORDERED = (
    ("bool", "bool", "bool"), ("int64", "int", "int"), ("int64_double", "int", "double"),
    ("int64_uint64", "int", "uint"), ("uint64", "uint", "uint"), ("uint64_double", "uint", "double"),
    ("uint64_int64", "uint", "int"), ("double", "double", "double"), ("double_int64", "double", "int"),
    ("double_uint64", "double", "uint"), ("string", "string", "string"), ("bytes", "bytes", "bytes"),
    ("timestamp", "timestamp", "timestamp"), ("duration", "duration", "duration"),
)  # fmt: skip
_NAMED = {
    "dyn": types.DYN, "bool": types.BOOL, "int": types.INT, "uint": types.UINT, "double": types.DOUBLE,
    "string": types.STRING, "bytes": types.BYTES, "timestamp": types.TIMESTAMP, "duration": types.DURATION,
    "null": types.NULL, "URL": types.URL, "IP": types.IP, "CIDR": types.CIDR, "Quantity": types.QUANTITY,
    "Semver": types.SEMVER, "NamedFormat": types.FORMAT, "Authorizer": types.AUTHORIZER,
    "PathCheck": types.PATH_CHECK, "GroupCheck": types.GROUP_CHECK, "ResourceCheck": types.RESOURCE_CHECK,
    "Decision": types.DECISION,
}  # fmt: skip
_PIECE = re.compile(r"[A-Za-z0-9_.]+|[(),]")


@dataclasses.dataclass(frozen=True, slots=True)
class Overload:
    """One signature; a member's first argument is its target. ``parameters`` are the type parameters in it."""

    id: str
    member: bool
    args: tuple[Type, ...]
    result: Type
    parameters: tuple[str, ...]


Functions = Mapping[str, Sequence[Overload]]


@functools.cache
def kubernetes() -> Functions:
    """The functions of the base environment, by name."""
    found = _read(_TABLE)
    for function, word in _ORDERINGS.items():
        found[function] = [
            Overload(f"{word}_{name}", False, (_NAMED[left], _NAMED[right]), types.BOOL, ())
            for name, left, right in _ORDERED
        ]
    return found


@functools.cache
def mutation() -> Functions:
    """The functions mutating policies have besides."""
    return _read(_MUTATION_TABLE)


@functools.cache
def type_names() -> Mapping[str, Type]:
    """The types an expression can name, as values."""
    named = {
        "bool": types.BOOL,
        "bytes": types.BYTES,
        "double": types.DOUBLE,
        "int": types.INT,
        "list": types.list_of(types.DYN),
        "map": types.map_of(types.DYN, types.DYN),
        "null_type": types.NULL,
        "string": types.STRING,
        "uint": types.UINT,
        "google.protobuf.Duration": types.DURATION,
        "google.protobuf.Timestamp": types.TIMESTAMP,
        "optional_type": types.optional_of(types.type_param("T")),
    }
    return {**{name: types.type_of(of) for name, of in named.items()}, "type": types.type_of(types.TYPE)}


def _read(table: str) -> dict[str, list[Overload]]:
    found: dict[str, list[Overload]] = {}
    for line in table.strip().splitlines():
        function, overload, style, rest = line.split(" ", 3)
        signature = list(reversed(_PIECE.findall(rest)))
        parameters: list[str] = []
        args = _types(signature, parameters)
        result = _type(signature, parameters)
        found.setdefault(function, []).append(Overload(overload, style == ".", args, result, tuple(parameters)))
    return found


def _types(pieces: list[str], parameters: list[str]) -> tuple[Type, ...]:
    """What stands in parentheses; ``pieces`` is reversed and eaten."""
    pieces.pop()
    found: list[Type] = []
    while pieces[-1] != ")":
        if pieces[-1] == ",":
            pieces.pop()
        found.append(_type(pieces, parameters))
    pieces.pop()
    return tuple(found)


def _type(pieces: list[str], parameters: list[str]) -> Type:
    name = pieces.pop()
    if name in _NAMED:
        return _NAMED[name]
    if len(name) == 1:
        if name not in parameters:
            parameters.append(name)
        return types.type_param(name)
    inner = _types(pieces, parameters)
    if name == "list":
        return types.list_of(inner[0])
    if name == "map":
        return types.map_of(inner[0], inner[1])
    return types.optional_of(inner[0]) if name == "optional" else types.type_of(inner[0])
