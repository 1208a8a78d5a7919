package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func (d *adminDiff) create() question {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.ValidateOnly = d.rng.IntN(4) == 0
	for range 1 + d.rng.IntN(2) {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic = d.topic()
		rt.NumPartitions = pick(d.rng, int32(1), 2, 3, 3, -1, 0, -5)
		rt.ReplicationFactor = pick(d.rng, int16(1), 1, 1, -1, 0, -2)
		for range d.rng.IntN(3) {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = d.setting()
			rt.Configs = append(rt.Configs, c)
		}
		req.Topics = append(req.Topics, rt)
	}
	return question{what: fmt.Sprintf("create %+v", req.Topics), req: req, show: func(r kmsg.Response) string {
		var out []string
		for _, t := range r.(*kmsg.CreateTopicsResponse).Topics {
			var configs []string
			for _, c := range t.Configs {
				if comparableConfig(c.Name) {
					configs = append(configs, fmt.Sprint(c.Name, "=", shownText(c.Value), " ", c.Source, c.ReadOnly, c.IsSensitive))
				}
			}
			out = append(out, fmt.Sprintf("%s: %d, %d partitions, factor %d, %s", t.Topic, t.ErrorCode, t.NumPartitions, t.ReplicationFactor, inOrder(configs)))
		}
		return inOrder(out)
	}}
}

func (d *adminDiff) remove() question {
	req := kmsg.NewPtrDeleteTopicsRequest()
	for range 1 + d.rng.IntN(2) {
		rt := kmsg.NewDeleteTopicsRequestTopic()
		name := d.topic()
		rt.Topic = &name
		req.Topics = append(req.Topics, rt)
	}
	return question{what: "delete " + *req.Topics[0].Topic, req: req, show: func(r kmsg.Response) string {
		var out []string
		for _, t := range r.(*kmsg.DeleteTopicsResponse).Topics {
			out = append(out, fmt.Sprint(shownText(t.Topic), " ", t.ErrorCode))
		}
		return inOrder(out)
	}}
}

func (d *adminDiff) grow() question {
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.ValidateOnly = d.rng.IntN(4) == 0
	rt := kmsg.NewCreatePartitionsRequestTopic()
	rt.Topic, rt.Count = d.topic(), pick(d.rng, int32(1), 2, 3, 4, 5, 0, -1)
	req.Topics = append(req.Topics, rt)
	return question{what: fmt.Sprintf("grow %+v", rt), req: req, show: func(r kmsg.Response) string {
		t := r.(*kmsg.CreatePartitionsResponse).Topics[0]
		return fmt.Sprint(t.Topic, " ", t.ErrorCode)
	}}
}

func (d *adminDiff) describe() question {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.IncludeSynonyms = true
	res := kmsg.NewDescribeConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, d.topic()
	if d.rng.IntN(4) == 0 {
		res.ConfigNames = []string{"retention.ms", "made.up"}
	}
	if d.rng.IntN(4) == 0 {
		res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, pick(d.rng, "diff-group", "")
		res.ConfigNames = []string{"consumer.session.timeout.ms", "consumer.heartbeat.interval.ms", "consumer.assignment.interval.ms", "consumer.assignor.offload.enable"}
	}
	req.Resources = append(req.Resources, res)
	return question{what: fmt.Sprintf("describe configs of %+v", res), req: req, reads: true, show: func(r kmsg.Response) string {
		t := r.(*kmsg.DescribeConfigsResponse).Resources[0]
		var out []string
		for _, c := range t.Configs {
			if !comparableConfig(c.Name) {
				continue
			}
			synonyms := ""
			for _, s := range c.ConfigSynonyms {
				// Kafka shows no synonyms of a default that no broker config stands behind.
				if s.Source != kmsg.ConfigSourceDefaultConfig {
					synonyms += fmt.Sprint(" ", s.Name, "=", shownText(s.Value), s.Source)
				}
			}
			out = append(out, fmt.Sprint(c.Name, "=", shownText(c.Value), " ", c.Source, c.ReadOnly, c.IsSensitive, c.ConfigType, synonyms))
		}
		return fmt.Sprint(t.ErrorCode, ": ", inOrder(out))
	}}
}

func (d *adminDiff) alter() question {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = d.rng.IntN(4) == 0
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, d.topic()
	for range 1 + d.rng.IntN(2) {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = d.setting()
		c.Op = pick(d.rng, kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete,
			kmsg.IncrementalAlterConfigOpAppend, kmsg.IncrementalAlterConfigOpSubtract)
		res.Configs = append(res.Configs, c)
	}
	req.Resources = append(req.Resources, res)
	what := fmt.Sprint("alter ", res.ResourceName, " validate ", req.ValidateOnly)
	for _, c := range res.Configs {
		what += fmt.Sprint(" ", c.Op, " ", c.Name, "=", shownText(c.Value))
	}
	return question{what: what, req: req, show: func(r kmsg.Response) string {
		return fmt.Sprint(r.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode)
	}}
}

func (d *adminDiff) group() question {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	res := kmsg.NewIncrementalAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, pick(d.rng, "diff-group", "diff-group", "")
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name = pick(d.rng, "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms", "consumer.assignment.interval.ms", "consumer.assignor.offload.enable", "what.ever")
	value := pick(d.rng, "45000", "60001", "5000", "15001", "true", "x", "1000", "-1", "0", "15000")
	c.Value = &value
	c.Op = pick(d.rng, kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete, kmsg.IncrementalAlterConfigOpAppend)
	res.Configs = append(res.Configs, c)
	req.Resources = append(req.Resources, res)
	return question{what: fmt.Sprintf("alter group %q %v %s=%s", res.ResourceName, c.Op, c.Name, value), req: req, show: func(r kmsg.Response) string {
		return fmt.Sprint(r.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode)
	}}
}

func (d *adminDiff) replace() question {
	req := kmsg.NewPtrAlterConfigsRequest()
	req.ValidateOnly = d.rng.IntN(4) == 0
	res := kmsg.NewAlterConfigsRequestResource()
	res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, d.topic()
	what := "replace the configs of " + res.ResourceName
	for range d.rng.IntN(3) {
		c := kmsg.NewAlterConfigsRequestResourceConfig()
		c.Name, c.Value = d.setting()
		what += fmt.Sprint(" ", c.Name, "=", shownText(c.Value))
		res.Configs = append(res.Configs, c)
	}
	req.Resources = append(req.Resources, res)
	return question{what: what, req: req, show: func(r kmsg.Response) string {
		return fmt.Sprint(r.(*kmsg.AlterConfigsResponse).Resources[0].ErrorCode)
	}}
}

func (d *adminDiff) offsets() question {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, int8(d.rng.IntN(2))
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = d.names[d.rng.IntN(len(d.names))]
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition = pick(d.rng, int32(0), 0, 1, 2, 7, -1)
	p.Timestamp = pick(d.rng, int64(-1), -2, -3, -4, -5, -6, -7, 0, 1<<50)
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return question{what: fmt.Sprint("offsets ", rt.Topic, " ", p.Partition, " at ", p.Timestamp, " isolation ", req.IsolationLevel), req: req, reads: true,
		show: func(r kmsg.Response) string {
			p := r.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
			return fmt.Sprintf("%d: %d at %d, epoch known %v", p.ErrorCode, p.Offset, p.Timestamp, p.LeaderEpoch >= 0)
		}}
}

func (d *adminDiff) trim() question {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 10_000
	rt := kmsg.NewDeleteRecordsRequestTopic()
	rt.Topic = d.names[d.rng.IntN(len(d.names))]
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Partition, p.Offset = pick(d.rng, int32(0), 0, 1, 9), pick(d.rng, int64(-1), 0, 1, 2, 1000, -5)
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return question{what: fmt.Sprint("trim ", rt.Topic, " ", p.Partition, " before ", p.Offset), req: req, reads: true, show: func(r kmsg.Response) string {
		p := r.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]
		return fmt.Sprint(p.ErrorCode, ": ", p.LowWatermark)
	}}
}

func (d *adminDiff) metadata() question {
	req := kmsg.NewPtrMetadataRequest()
	for range 1 + d.rng.IntN(3) {
		rt := kmsg.NewMetadataRequestTopic()
		name := d.topic()
		rt.Topic = &name
		req.Topics = append(req.Topics, rt)
	}
	return question{what: "metadata", req: req, reads: true, show: func(r kmsg.Response) string {
		m := r.(*kmsg.MetadataResponse)
		var out []string
		seen := map[string]bool{}
		for _, t := range m.Topics {
			line := fmt.Sprint(shownText(t.Topic), " ", t.ErrorCode, " ", t.IsInternal, " ", len(t.Partitions))
			for _, p := range t.Partitions {
				line += fmt.Sprint(" ", p.ErrorCode, len(p.Replicas), len(p.ISR), len(p.OfflineReplicas))
			}
			// Kafka answers a name twice that is asked for twice and does not exist.
			if !seen[line] {
				seen[line] = true
				out = append(out, line)
			}
		}
		return fmt.Sprint(len(m.Brokers), " brokers: ", inOrder(out))
	}}
}

func (d *adminDiff) pages() question {
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = int32(1 + d.rng.IntN(4))
	for _, n := range d.names {
		req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: n})
	}
	if d.rng.IntN(2) == 0 {
		req.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: d.names[d.rng.IntN(len(d.names))], Partition: int32(d.rng.IntN(3))}
	}
	return question{what: fmt.Sprintf("pages of %d from %+v", req.ResponsePartitionLimit, req.Cursor), req: req, reads: true, show: func(r kmsg.Response) string {
		p := r.(*kmsg.DescribeTopicPartitionsResponse)
		out := ""
		for _, t := range p.Topics {
			out += fmt.Sprint(shownText(t.Topic), " ", t.ErrorCode)
			for _, part := range t.Partitions {
				out += fmt.Sprint(" ", part.Partition)
			}
			out += "; "
		}
		if p.NextCursor != nil {
			out += fmt.Sprint("next ", p.NextCursor.Topic, " ", p.NextCursor.Partition)
		}
		return out
	}}
}

func (d *adminDiff) elect() question {
	req := kmsg.NewPtrElectLeadersRequest()
	req.ElectionType = pick(d.rng, int8(0), 1, 7)
	req.Topics = append(req.Topics, kmsg.ElectLeadersRequestTopic{Topic: d.names[d.rng.IntN(len(d.names))], Partitions: []int32{0, 9}})
	return question{what: "elect leaders", req: req, reads: true, show: func(r kmsg.Response) string {
		e := r.(*kmsg.ElectLeadersResponse)
		var out []string
		for _, t := range e.Topics {
			for _, p := range t.Partitions {
				out = append(out, fmt.Sprint(t.Topic, " ", p.Partition, " ", p.ErrorCode))
			}
		}
		return fmt.Sprint(e.ErrorCode, ": ", inOrder(out))
	}}
}

func (d *adminDiff) reassign() question {
	if d.rng.IntN(2) == 0 {
		return question{what: "reassignments", req: kmsg.NewPtrListPartitionReassignmentsRequest(), reads: true, show: func(r kmsg.Response) string {
			l := r.(*kmsg.ListPartitionReassignmentsResponse)
			return fmt.Sprint(l.ErrorCode, len(l.Topics))
		}}
	}
	req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
	rt.Topic = d.names[d.rng.IntN(len(d.names))]
	p := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
	p.Partition, p.Replicas = pick(d.rng, int32(0), 9), pick(d.rng, nil, []int32{1}, []int32{77})
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return question{what: fmt.Sprintf("reassign %s %+v", rt.Topic, p), req: req, show: func(r kmsg.Response) string {
		a := r.(*kmsg.AlterPartitionAssignmentsResponse)
		return fmt.Sprint(a.ErrorCode, a.Topics[0].Partitions[0].ErrorCode)
	}}
}

func (d *adminDiff) dirs() question {
	req := kmsg.NewPtrDescribeLogDirsRequest()
	req.Topics = append(req.Topics, kmsg.DescribeLogDirsRequestTopic{Topic: d.names[d.rng.IntN(len(d.names))], Partitions: []int32{0, 1, 9}})
	return question{what: "log dirs", req: req, reads: true, show: func(r kmsg.Response) string {
		l := r.(*kmsg.DescribeLogDirsResponse)
		var out []string
		for _, dir := range l.Dirs {
			for _, t := range dir.Topics {
				for _, p := range t.Partitions {
					out = append(out, fmt.Sprint(t.Topic, p.Partition, p.OffsetLag, p.IsFuture))
				}
			}
		}
		return fmt.Sprint(l.ErrorCode, len(l.Dirs), inOrder(out))
	}}
}

func (d *adminDiff) resources() question {
	req := kmsg.NewPtrListConfigResourcesRequest()
	req.ResourceTypes = []int8{pick(d.rng, int8(kmsg.ConfigResourceTypeTopic), int8(kmsg.ConfigResourceTypeGroupConfig), 3)}
	return question{what: fmt.Sprint("config resources ", req.ResourceTypes), req: req, reads: true, show: func(r kmsg.Response) string {
		l := r.(*kmsg.ListConfigResourcesResponse)
		var out []string
		for _, c := range l.ConfigResources {
			for _, n := range append([]string{"diff-group"}, d.names...) {
				if c.Name == n {
					out = append(out, fmt.Sprint(c.Type, c.Name))
				}
			}
		}
		return fmt.Sprint(l.ErrorCode, inOrder(out))
	}}
}

func (d *adminDiff) epoch() question {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.ReplicaID = -1
	rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
	rt.Topic = d.names[d.rng.IntN(len(d.names))]
	p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	p.CurrentLeaderEpoch, p.LeaderEpoch = -1, 1000 // of the future
	rt.Partitions = append(rt.Partitions, p)
	req.Topics = append(req.Topics, rt)
	return question{what: "offset for a leader epoch of the future", req: req, reads: true, show: func(r kmsg.Response) string {
		p := r.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
		return fmt.Sprint(p.ErrorCode, ": ", p.EndOffset, p.LeaderEpoch)
	}}
}
