package console

import (
	"context"
	"errors"
	"net/http"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// problems maps what was wrong with a request to an HTTP status.
var problems = map[controller.Problem]int{
	controller.Unknown:     http.StatusNotFound,
	controller.Exists:      http.StatusConflict,
	controller.Busy:        http.StatusConflict,
	controller.Refused:     http.StatusUnprocessableEntity,
	controller.Invalid:     http.StatusBadRequest,
	controller.Unavailable: http.StatusServiceUnavailable,
}

// apiError is the one table from errors to answers of the admin API.
func apiError(err error) *api.Error {
	var own *api.Error
	if errors.As(err, &own) {
		return own
	}
	var req *controller.RequestError
	if errors.As(err, &req) {
		return &api.Error{Status: problems[req.Problem], Code: string(req.Problem), Message: req.Message, Hint: req.Hint}
	}
	var rejected *span.RejectedError
	if errors.As(err, &rejected) {
		e := &api.Error{Status: http.StatusBadRequest, Code: "invalid", Message: rejected.Detail}
		switch rejected.Code {
		case wire.TopicAlreadyExists:
			e.Status, e.Code = http.StatusConflict, "exists"
		case wire.UnknownTopicOrPartition, wire.UnknownTopicID:
			e.Status, e.Code = http.StatusNotFound, "unknown"
		}
		if e.Message == "" {
			e.Message = rejected.Code.String()
		}
		return e
	}
	e := &api.Error{Status: http.StatusInternalServerError, Code: "internal", Message: err.Error()}
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		e.Status, e.Code = http.StatusNotFound, "unknown"
	case errors.Is(err, catalog.ErrExists), errors.Is(err, catalog.ErrConflict):
		e.Status, e.Code = http.StatusConflict, "exists"
	case errors.Is(err, catalog.ErrUnavailable), errors.Is(err, span.ErrUnavailable),
		errors.Is(err, context.DeadlineExceeded):
		e.Status, e.Code = http.StatusServiceUnavailable, "unavailable"
	}
	return e
}
