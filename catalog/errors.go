package catalog

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Kinds of errors. Methods wrap them with context; callers use errors.Is.
var (
	// ErrConflict: something that the write compared has changed. Read again and decide anew.
	ErrConflict = errors.New("catalog changed meanwhile")
	// ErrFenced: the leadership that guarded the write is over.
	ErrFenced = fmt.Errorf("leadership is over: %w", ErrConflict)
	// ErrNotFound: no such key.
	ErrNotFound = errors.New("not in the catalog")
	// ErrExists: the key exists.
	ErrExists = errors.New("already in the catalog")
	// ErrUnavailable: etcd did not answer. A write may or may not have landed.
	ErrUnavailable = errors.New("catalog is unavailable")
	// ErrTooLarge: the value is larger than the catalog takes.
	ErrTooLarge = errors.New("too large for the catalog")
	// ErrFormat: the catalog was written in a format that this release does not know.
	ErrFormat = errors.New("catalog format is not known")
	// ErrCorrupt: a value cannot be decoded.
	ErrCorrupt = errors.New("catalog value is corrupt")
	// ErrInUse: another process has the data directory.
	ErrInUse = errors.New("catalog directory is in use")
	// ErrEnded: the embedded etcd cannot go on, and what it holds cannot be reached before the process is started again.
	ErrEnded = errors.New("the embedded catalog cannot go on")
	// ErrSessionLost: the lease behind the session is over.
	ErrSessionLost = errors.New("session is lost")
)

// BusyError says which operation already works on a topic.
type BusyError struct {
	Op    string
	Topic string
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("topic %s is being changed by operation %s", e.Topic, e.Op)
}

// Is makes errors.Is(err, ErrExists) hold.
func (e *BusyError) Is(target error) bool { return target == ErrExists }

// failure maps an error of the etcd client. A caller that gave up gets its own
// context's error; everything that says "no answer" is ErrUnavailable.
func failure(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	if unanswered(err) {
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	}
	if errors.Is(err, rpctypes.ErrRequestTooLarge) {
		return fmt.Errorf("%s: %w", what, ErrTooLarge)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func unanswered(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	var etcd rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &etcd) {
		code = etcd.Code()
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted, codes.Internal:
		return !errors.Is(err, rpctypes.ErrRequestTooLarge)
	}
	return false
}
