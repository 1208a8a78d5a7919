package leaks

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// What ends later than goleak waits is no leak.
func TestSlowEndIsNoLeak(t *testing.T) {
	before := goleak.IgnoreCurrent()
	go time.Sleep(time.Second)
	if goleak.Find(before) == nil {
		t.Log("goleak waited by itself")
	}
	None(t, before)
}
