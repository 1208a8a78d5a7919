package nearest

import "testing"

func TestName(t *testing.T) {
	known := []string{"retention.ms", "retention.bytes", "cleanup.policy", "max.message.bytes", "op", "a", "topic"}
	for _, tc := range []struct{ name, want string }{
		{"retention.m", "retention.ms"},
		{"retension.ms", "retention.ms"},
		{"cleanup_policy", "cleanup.policy"},
		{"max.mesage.byte", "max.message.bytes"},
		{"zzz", ""},
		{"foo", ""},
		{"po", "op"},
		{"oops", ""},
		{"x", ""},
		{"tpoic", "topic"},
		{"tpic", "topic"},
		{"retentoin.msx", "retention.ms"},
		{"", ""},
		{"completely.different", ""},
	} {
		if got := Name(tc.name, known); got != tc.want {
			t.Errorf("Name(%q) = %q, want %q", tc.name, got, tc.want)
		}
	}
}
