// Package leaks finds goroutines that tests left behind. goleak itself gives them 0.4 s
// to end, which is too little for what ends in the background on a busy machine.
package leaks

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines have to end; waiting costs only tests that fail.
const patience = time.Minute

// Find tells which goroutines are still there after a minute.
func Find(opts ...goleak.Option) error {
	for end := time.Now().Add(patience); ; {
		err := goleak.Find(opts...)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// None fails the test if goroutines are left.
func None(t testing.TB, opts ...goleak.Option) {
	t.Helper()
	if err := Find(opts...); err != nil {
		t.Error(err)
	}
}

// Main runs a binary's tests and then looks for goroutines that they left:
//
//	func TestMain(m *testing.M) { os.Exit(leaks.Main(m)) }
func Main(m interface{ Run() int }, opts ...goleak.Option) int {
	code := m.Run()
	if code != 0 {
		return code
	}
	if err := Find(opts...); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		return 1
	}
	return 0
}
