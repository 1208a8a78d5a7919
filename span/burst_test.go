package span

import (
	"slices"
	"testing"
)

type noted struct{ log *[]string }

func (q noted) Put(item any) { *q.log = append(*q.log, "put "+item.(string)) }
func (q noted) Wake()        { *q.log = append(*q.log, "wake") }

// What is put off in a burst is ready as a whole before its I/O begins, and what
// comes after the end is not put off.
func TestBurst(t *testing.T) {
	var log []string
	q := noted{&log}
	var b Burst
	if b.PutOff(q, "early") || (*Burst)(nil).PutOff(q, "nil") {
		t.Error("put off although no burst is open")
	}
	for range 2 { // it is used again
		log = nil
		b.Begin()
		for _, item := range []string{"a", "b", "c"} {
			if !b.PutOff(q, item) {
				t.Fatalf("%s was not put off", item)
			}
		}
		if len(log) != 0 {
			t.Errorf("before the end: %v", log)
		}
		b.End()
		if want := []string{"put a", "put b", "put c", "wake"}; !slices.Equal(log, want) {
			t.Errorf("got %v, want %v", log, want)
		}
		if b.PutOff(q, "late") {
			t.Error("put off after the end")
		}
	}
}
