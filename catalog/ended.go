package catalog

import (
	"errors"
	"fmt"
	"syscall"

	"go.uber.org/zap/zapcore"
)

// end hears of it when the embedded etcd finds that it cannot go on, as on a disk without room. By itself
// etcd would end the process in the middle of whatever it does, without a word of what to do.
type end struct {
	dir string
	why chan error
}

func newEnd(dir string) *end { return &end{dir: dir, why: make(chan error, 1)} }

// tell keeps the first reason.
func (e *end) tell(err error) {
	select {
	case e.why <- err:
	default:
	}
}

// OnWrite is called in place of the exit, or the panic, that etcd asks for with such an entry. It does not return:
// after a write that failed nothing may be acknowledged, so etcd stands still until the process ends.
func (e *end) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	e.tell(e.whyOf(entry, fields))
	select {}
}

func (e *end) whyOf(entry *zapcore.CheckedEntry, fields []zapcore.Field) error {
	err := errors.New(entry.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok {
			err = fmt.Errorf("%s: %w", entry.Message, cause)
		}
	}
	what := "start again when the cause is mended"
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		what = "no space is left there: free some, then start again"
	}
	return fmt.Errorf("%w in %s: %s (nothing acknowledged is lost): %w", ErrEnded, e.dir, what, err)
}
