package controller

import (
	"errors"
	"fmt"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

func refuse(p Problem, hint, format string, args ...any) *RequestError {
	return &RequestError{Problem: p, Hint: hint, Message: fmt.Sprintf(format, args...)}
}

// rejected is a refusal for a Kafka client; detail holds nothing physical.
func rejected(code wire.Code, format string, args ...any) error {
	return &span.RejectedError{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// requestError gives an error of the catalog or of a store the kind by which an
// operator's request failed.
func requestError(err error, what string) error {
	var req *RequestError
	var busy *catalog.BusyError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &req):
		return err
	case errors.As(err, &busy):
		return &RequestError{Problem: Busy, Message: busy.Error(), Hint: "braid op watch " + busy.Op, Err: err}
	case errors.Is(err, catalog.ErrNotFound):
		return &RequestError{Problem: Unknown, Message: what + " does not exist", Err: err}
	case errors.Is(err, catalog.ErrExists):
		return &RequestError{Problem: Exists, Message: what + " exists", Err: err}
	case errors.Is(err, catalog.ErrUnavailable), errors.Is(err, span.ErrUnavailable):
		return &RequestError{Problem: Unavailable, Message: fmt.Sprintf("%s: %v", what, err), Err: err}
	case errors.Is(err, span.ErrDenied), errors.Is(err, span.ErrStorage), errors.Is(err, span.ErrCannotSeal):
		return &RequestError{Problem: Refused, Message: fmt.Sprintf("%s: %v", what, err), Err: err}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func isConflict(err error) bool { return errors.Is(err, catalog.ErrConflict) }
