package acl

import (
	"errors"

	"github.com/braidstream/braid/catalog"
)

// FromRecord reads a rule as the catalog keeps it.
func FromRecord(a *catalog.ACL) (Binding, error) {
	b := Binding{Name: a.ResourceName, Principal: a.Principal, Host: a.Host}
	var errs [4]error
	b.Type, errs[0] = ParseResourceType(a.ResourceType)
	b.Pattern, errs[1] = ParsePatternType(a.PatternType)
	b.Operation, errs[2] = ParseOperation(a.Operation)
	b.Permission, errs[3] = ParsePermission(a.Permission)
	return b, errors.Join(errs[:]...)
}

// Record is the rule as the catalog keeps it.
func (b Binding) Record() catalog.ACL {
	return catalog.ACL{ResourceType: b.Type.String(), ResourceName: b.Name, PatternType: b.Pattern.String(),
		Principal: b.Principal, Host: b.Host, Operation: b.Operation.String(), Permission: b.Permission.String()}
}

// FromRecords reads a tenant's rules. Those that this release does not know are
// left out: an ALLOW that is not understood allows nothing. A DENY of that kind
// cannot deny anything that this release serves.
func FromRecords(records []*catalog.ACL) []Binding {
	out := make([]Binding, 0, len(records))
	for _, r := range records {
		if b, err := FromRecord(r); err == nil {
			out = append(out, b)
		}
	}
	return out
}
