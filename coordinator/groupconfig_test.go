package coordinator

import (
	"testing"
	"time"
)

func TestGroupConfig(t *testing.T) {
	for _, c := range []struct {
		config map[string]string
		ok     bool
	}{
		{nil, true},
		{map[string]string{GroupSessionTimeout: "50000"}, true},
		{map[string]string{GroupSessionTimeout: "44999"}, false},
		{map[string]string{GroupSessionTimeout: "60001"}, false},
		{map[string]string{GroupSessionTimeout: "x"}, false},
		{map[string]string{GroupHeartbeatInterval: "15000"}, true},
		{map[string]string{GroupHeartbeatInterval: "15001"}, false},
		{map[string]string{GroupAssignmentInterval: "99999999999"}, false},
	} {
		if err := CheckGroupConfig(c.config); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.config, err)
		}
	}
	for i := range groupConfigKeys {
		if k := &groupConfigKeys[i]; CheckGroupConfig(map[string]string{k.Name: k.Default}) != nil {
			t.Errorf("the default of %s is refused", k.Name)
		}
	}
	if d := GroupMillis(map[string]string{GroupSessionTimeout: "50000"}, GroupSessionTimeout); d != 50*time.Second {
		t.Error(d)
	}
	if d := GroupMillis(nil, GroupHeartbeatInterval); d != 5*time.Second {
		t.Error(d)
	}
}
