// Package acl decides who may do what: Kafka's model of access control lists,
// as its StandardAuthorizer has it (KIP-11, KIP-290, KIP-801). It is pure: rules
// go in, an immutable [Index] comes out, and decisions are made of that alone.
package acl

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// ResourceType is the kind of what a rule is about; the values are the wire's.
type ResourceType int8

// The resource types of Kafka. Any is for filters only.
const (
	AnyType         ResourceType = 1
	Topic           ResourceType = 2
	Group           ResourceType = 3
	Cluster         ResourceType = 4
	TransactionalID ResourceType = 5
	DelegationToken ResourceType = 6
	User            ResourceType = 7
)

// PatternType tells how a rule's resource name is read; the values are the wire's.
type PatternType int8

// The pattern types of Kafka. Any and Match are for filters only.
const (
	AnyPattern PatternType = 1
	Match      PatternType = 2 // what would decide about a resource of that name
	Literal    PatternType = 3
	Prefixed   PatternType = 4
)

// Operation is what a rule is about to allow; the values are the wire's.
type Operation int8

// The operations of Kafka. AnyOperation is for filters only.
const (
	AnyOperation    Operation = 1
	All             Operation = 2
	Read            Operation = 3
	Write           Operation = 4
	Create          Operation = 5
	Delete          Operation = 6
	Alter           Operation = 7
	Describe        Operation = 8
	ClusterAction   Operation = 9
	DescribeConfigs Operation = 10
	AlterConfigs    Operation = 11
	IdempotentWrite Operation = 12
	CreateTokens    Operation = 13
	DescribeTokens  Operation = 14
	TwoPhaseCommit  Operation = 15
)

// Permission is what a rule says; the values are the wire's.
type Permission int8

// The permissions of Kafka. AnyPermission is for filters only.
const (
	AnyPermission Permission = 1
	Deny          Permission = 2
	Allow         Permission = 3
)

const (
	// ClusterName is the name of the one resource of type Cluster.
	ClusterName = "kafka-cluster"
	// Wildcard stands for any resource name, any host and, as in User:*, anyone.
	Wildcard = "*"
	// Everyone is the principal that stands for all.
	Everyone = "User:*"
)

var (
	typeNames       = []string{"UNKNOWN", "ANY", "TOPIC", "GROUP", "CLUSTER", "TRANSACTIONAL_ID", "DELEGATION_TOKEN", "USER"}
	patternNames    = []string{"UNKNOWN", "ANY", "MATCH", "LITERAL", "PREFIXED"}
	permissionNames = []string{"UNKNOWN", "ANY", "DENY", "ALLOW"}
	operationNames  = []string{"UNKNOWN", "ANY", "ALL", "READ", "WRITE", "CREATE", "DELETE", "ALTER", "DESCRIBE", "CLUSTER_ACTION",
		"DESCRIBE_CONFIGS", "ALTER_CONFIGS", "IDEMPOTENT_WRITE", "CREATE_TOKENS", "DESCRIBE_TOKENS", "TWO_PHASE_COMMIT"}
)

func name(names []string, i int8) string {
	if i < 0 || int(i) >= len(names) {
		return names[0]
	}
	return names[i]
}

func (t ResourceType) String() string { return name(typeNames, int8(t)) }
func (p PatternType) String() string  { return name(patternNames, int8(p)) }
func (o Operation) String() string    { return name(operationNames, int8(o)) }
func (p Permission) String() string   { return name(permissionNames, int8(p)) }

// parse finds a name as people write it, such as describe-configs or DescribeConfigs.
func parse[T ~int8](what, s string, names []string) (T, error) {
	plain := strings.NewReplacer("_", "", "-", "").Replace(strings.ToUpper(s))
	for i, n := range names {
		if i > 0 && strings.ReplaceAll(n, "_", "") == plain {
			return T(i), nil
		}
	}
	return 0, &InvalidError{fmt.Sprintf("%s %.40q is none of %s", what, s, strings.Join(names[1:], ", "))}
}

// ParseResourceType reads a resource type in upper or lower case.
func ParseResourceType(s string) (ResourceType, error) {
	return parse[ResourceType]("resource type", s, typeNames)
}

// ParsePatternType reads a pattern type.
func ParsePatternType(s string) (PatternType, error) {
	return parse[PatternType]("pattern type", s, patternNames)
}

// ParseOperation reads an operation.
func ParseOperation(s string) (Operation, error) {
	return parse[Operation]("operation", s, operationNames)
}

// ParsePermission reads a permission.
func ParsePermission(s string) (Permission, error) {
	return parse[Permission]("permission", s, permissionNames)
}

// Binding is one rule.
type Binding struct {
	Type       ResourceType
	Name       string
	Pattern    PatternType
	Principal  string // such as User:alice
	Host       string // an address, or *
	Operation  Operation
	Permission Permission
}

func (b Binding) String() string {
	return fmt.Sprintf("%s %s %s on %s %s %q from %s", b.Permission, b.Principal, b.Operation, b.Pattern, b.Type, b.Name, b.Host)
}

// Compare orders rules for lists: by resource, then by who.
func Compare(a, b Binding) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Pattern, b.Pattern),
		cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Operation, b.Operation),
		cmp.Compare(a.Permission, b.Permission))
}

// ErrInvalid is the kind of every [InvalidError].
var ErrInvalid = errors.New("invalid rule")

// InvalidError says what is wrong with a rule or a filter, in words for who wrote it.
type InvalidError struct{ Detail string }

func (e *InvalidError) Error() string        { return e.Detail }
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func invalid(format string, args ...any) error {
	return &InvalidError{fmt.Sprintf(format, args...)}
}

// The longest parts of a rule, bytes. Kafka has no limits; the catalog does.
const (
	maxName      = 4096
	maxPrincipal = 1024
	maxHost      = 255
)

// Validate tells why a rule cannot be, nil if it can.
func (b Binding) Validate() error {
	switch {
	case b.Type < Topic || b.Type > User:
		return invalid("Invalid resourceType %s", b.Type)
	case b.Type == DelegationToken:
		return invalid("There are no delegation tokens here, so no rules about them")
	case b.Pattern != Literal && b.Pattern != Prefixed:
		return invalid("Invalid patternType %s", b.Pattern)
	case b.Operation < All || int(b.Operation) >= len(operationNames):
		return invalid("Invalid operation %s", b.Operation)
	case b.Permission != Deny && b.Permission != Allow:
		return invalid("Invalid permissionType %s", b.Permission)
	case b.Name == "":
		return invalid("Resource name should not be empty")
	case len(b.Name) > maxName:
		return invalid("Resource name is longer than %d bytes", maxName)
	case b.Type == Cluster && b.Pattern == Literal && b.Name != ClusterName && b.Name != Wildcard:
		return invalid("The only resource of type CLUSTER is %s", ClusterName)
	case len(b.Principal) > maxPrincipal:
		return invalid("Principal is longer than %d bytes", maxPrincipal)
	case b.Host == "":
		return invalid("Host is empty: it is an address, or * for any")
	case len(b.Host) > maxHost:
		return invalid("Host is longer than %d bytes", maxHost)
	}
	if kind, who, ok := strings.Cut(b.Principal, ":"); !ok || kind == "" || who == "" {
		return invalid("Could not parse principal %.60q: it is like User:alice, or User:* for everyone", b.Principal)
	}
	for _, s := range []string{b.Name, b.Principal, b.Host} {
		if i := strings.IndexFunc(s, control); i >= 0 {
			return invalid("A control character in %.60q", s)
		}
	}
	return nil
}

// Meaningful tells why a rule, although Kafka takes it, says nothing: its
// resource type has no such operation.
func (b Binding) Meaningful() error {
	if b.Operation != All && Supported(b.Type)&(1<<b.Operation) == 0 {
		return invalid("Operation %s does not exist on resource type %s", b.Operation, b.Type)
	}
	return nil
}

func control(r rune) bool { return r < 0x20 || r == 0x7f }

// Supported is the set of operations that a resource type has, bit by bit.
func Supported(t ResourceType) int32 {
	switch t {
	case Topic:
		return 1<<Read | 1<<Write | 1<<Create | 1<<Delete | 1<<Alter | 1<<Describe | 1<<DescribeConfigs | 1<<AlterConfigs
	case Group:
		return 1<<Read | 1<<Delete | 1<<Describe | 1<<DescribeConfigs | 1<<AlterConfigs
	case Cluster:
		return 1<<Create | 1<<Alter | 1<<Describe | 1<<ClusterAction | 1<<DescribeConfigs | 1<<AlterConfigs | 1<<IdempotentWrite
	case TransactionalID:
		return 1<<Write | 1<<Describe | 1<<TwoPhaseCommit
	case DelegationToken:
		return 1 << Describe
	case User:
		return 1<<CreateTokens | 1<<DescribeTokens
	}
	return 0
}
