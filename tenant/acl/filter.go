package acl

import "strings"

// Filter selects rules, as DescribeAcls and DeleteAcls do. A nil string stands
// for any, as do the Any values of the types.
type Filter struct {
	Type       ResourceType
	Name       *string
	Pattern    PatternType
	Principal  *string
	Host       *string
	Operation  Operation
	Permission Permission
}

// Everything selects all rules.
func Everything() Filter {
	return Filter{Type: AnyType, Pattern: AnyPattern, Operation: AnyOperation, Permission: AnyPermission}
}

// Validate tells why a filter cannot be understood, nil if it can.
func (f Filter) Validate() error {
	switch {
	case f.Type < AnyType || f.Type > User:
		return invalid("Unknown resource type in the filter")
	case f.Pattern < AnyPattern || f.Pattern > Prefixed:
		return invalid("Unknown pattern type in the filter")
	case f.Operation < AnyOperation || int(f.Operation) >= len(operationNames):
		return invalid("Unknown operation in the filter")
	case f.Permission < AnyPermission || f.Permission > Allow:
		return invalid("Unknown permission type in the filter")
	}
	return nil
}

// Matches tells whether a rule is selected.
func (f Filter) Matches(b Binding) bool {
	return (f.Type == AnyType || f.Type == b.Type) &&
		f.named(b) &&
		(f.Principal == nil || *f.Principal == b.Principal) &&
		(f.Host == nil || *f.Host == b.Host) &&
		(f.Operation == AnyOperation || f.Operation == b.Operation) &&
		(f.Permission == AnyPermission || f.Permission == b.Permission)
}

func (f Filter) named(b Binding) bool {
	if f.Pattern != AnyPattern && f.Pattern != Match && f.Pattern != b.Pattern {
		return false
	}
	switch {
	case f.Name == nil:
		return true
	case f.Pattern != Match:
		return *f.Name == b.Name
	case b.Pattern == Prefixed:
		return strings.HasPrefix(*f.Name, b.Name)
	}
	return *f.Name == b.Name || b.Name == Wildcard
}
