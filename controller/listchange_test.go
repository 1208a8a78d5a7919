package controller

import (
	"testing"

	"github.com/braidstream/braid/gateway"
)

// What Apache Kafka 4.3.1 makes of these.
func TestListsAreAppendedToAndSubtractedFrom(t *testing.T) {
	for _, c := range []struct {
		have, change, want string
		op                 gateway.ConfigOp
		valid              bool
	}{
		{"delete", "compact", "delete,compact", gateway.ConfigAppend, true},
		{"delete", "delete", "delete", gateway.ConfigAppend, true},
		{"delete", "compact,", "delete,compact", gateway.ConfigAppend, true},
		{"delete", ",", "delete", gateway.ConfigAppend, true},
		{"delete", "", "delete,", gateway.ConfigAppend, false},
		{"", "", "", gateway.ConfigAppend, true},
		{"", "compact", "compact", gateway.ConfigAppend, true},
		{"delete", "shred", "delete,shred", gateway.ConfigAppend, false},
		{"delete", "delete", "", gateway.ConfigSubtract, true},
		{"delete,compact", "delete", "compact", gateway.ConfigSubtract, true},
		{"delete", "", "delete", gateway.ConfigSubtract, true},
		{"", "delete", "", gateway.ConfigSubtract, true},
	} {
		got, err := applyConfigChanges(map[string]string{"cleanup.policy": c.have}, false, []gateway.ConfigChange{{Key: "cleanup.policy", Op: c.op, Value: c.change}})
		if got["cleanup.policy"] != c.want || (err == nil) != c.valid {
			t.Errorf("%q and %q by %d: %q, %v, want %q", c.have, c.change, c.op, got["cleanup.policy"], err, c.want)
		}
	}
}
