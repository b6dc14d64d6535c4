//! The event sources of templates: what is read of them, and what is refused.

use super::{
    super::mapping::{Destination, StartingPosition},
    *,
};

const TEMPLATE: &str = r"
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Parameters:
  Retries: {Type: Number, Default: 4}
Globals:
  Function: {Timeout: 12}
Resources:
  Orders: {Type: AWS::DynamoDB::Table}
  Clicks: {Type: AWS::Kinesis::Stream}
  Failed: {Type: AWS::S3::Bucket}
  Queue: {Type: AWS::SQS::Queue}
  Fifo: {Type: AWS::SQS::Queue, Properties: {FifoQueue: true}}
  Views:
    Type: AWS::Serverless::Function
    Properties:
      Timeout: 60
      Events:
        OrderChanges:
          Type: DynamoDB
          Properties:
            Stream: !GetAtt Orders.StreamArn
            StartingPosition: TRIM_HORIZON
            BatchSize: 25
            MaximumRetryAttempts: !Ref Retries
            BisectBatchOnFunctionError: true
            FunctionResponseTypes: [ReportBatchItemFailures]
            DestinationConfig:
              OnFailure: {Type: S3, Destination: !GetAtt Failed.Arn}
        Jobs:
          Type: SQS
          Properties: {Queue: !GetAtt Queue.Arn, BatchSize: 10}
        Page: {Type: Api, Properties: {Path: /, Method: get}}
  Counter:
    Type: AWS::Serverless::Function
    Properties: {Handler: bootstrap}
  ClickMapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      EventSourceArn: {'Fn::GetAtt': [Clicks, Arn]}
      FunctionName: !Ref Counter
      StartingPosition: LATEST
      DestinationConfig:
        OnFailure: {Destination: !Sub 'arn:${AWS::Partition}:sns:${AWS::Region}:1:${Topic}'}
";

fn template(text: &str) -> Template {
    Template::parse(Path::new("t.yaml"), text).unwrap()
}

/// The template above with its first event source changed.
#[track_caller]
fn check_refused(from: &str, to: &str, message: &str) {
    assert!(TEMPLATE.contains(from), "{from}");
    let template = template(&TEMPLATE.replace(from, to));
    let error = template.event_source(Source::DynamoDb, None).unwrap_err();
    assert_eq!(error.to_string(), message);
    let other = template.event_source(Source::Kinesis, None);
    assert!(other.is_ok(), "a fault in one event source leaves the other alone");
}

#[test]
fn a_sam_event_gives_its_parameters_under_aws_names() {
    let found = template(TEMPLATE).event_source(Source::DynamoDb, None).unwrap();
    let expected = EventSource {
        logical_id: "OrderChanges".to_owned(),
        function_logical_id: "Views".to_owned(),
        source: Source::DynamoDb,
        parameters: Parameters {
            batch_size: 25,
            maximum_retry_attempts: Some(4),
            bisect_batch_on_function_error: true,
            report_batch_item_failures: true,
            on_failure: Some(Destination::S3("arn:aws:s3:::failed".to_owned())),
            ..Parameters::default()
        },
        stream: "Orders".to_owned(),
        function_timeout_s: 60,
    };
    assert_eq!(found, expected);
}

#[test]
fn a_mapping_written_out_as_a_resource_is_read_too() {
    let found = template(TEMPLATE).event_source(Source::Kinesis, Some("ClickMapping")).unwrap();
    assert_eq!(found.function_logical_id, "Counter");
    assert_eq!(found.stream, "Clicks");
    assert_eq!(found.function_timeout_s, 12, "from Globals");
    assert_eq!(found.parameters.starting_position, StartingPosition::Latest);
    let topic = Destination::Sns("arn:aws:sns:us-east-1:1:Topic".to_owned());
    assert_eq!(found.parameters.on_failure, Some(topic));
}

#[test]
fn the_choice_is_by_kind_and_names_what_there_is() {
    let missing = |text: &str, kind, id: Option<&str>| {
        template(text).event_source(kind, id).unwrap_err().to_string()
    };
    assert_eq!(
        missing(TEMPLATE, Source::DynamoDb, Some("Jobs")),
        "template t.yaml: no DynamoDB event source `Jobs`; its stream event sources: \
         ClickMapping (Kinesis), OrderChanges (DynamoDB)"
    );
    assert_eq!(
        missing("Resources: {}", Source::Kinesis, None),
        "template t.yaml: no Kinesis event source; its stream event sources: none"
    );
    let two = TEMPLATE.replace("Type: SQS\n", "Type: DynamoDB\n");
    assert_eq!(
        missing(&two, Source::DynamoDb, None),
        "template t.yaml: several DynamoDB event sources fit: Jobs (DynamoDB), \
         OrderChanges (DynamoDB); choose one with --event-source, or a function with --function"
    );
    assert!(template(&two).event_source(Source::DynamoDb, Some("OrderChanges")).is_ok());
}

#[test]
fn a_function_of_several_is_chosen_by_its_logical_id() {
    let two = TEMPLATE.replace("Type: SQS\n", "Type: DynamoDB\n");
    let of = |function| template(&two).of_function(function);
    assert_eq!(
        of("Nobody").unwrap_err().to_string(),
        "template t.yaml: no stream event source calls a function `Nobody`; functions with one: \
         Counter, Views"
    );
    let found = of("Counter").unwrap().event_source(Source::Kinesis, None).unwrap();
    assert_eq!(found.logical_id, "ClickMapping");
    assert!(of("Counter").unwrap().event_source(Source::DynamoDb, Some("OrderChanges")).is_err());
}

#[test]
fn a_property_that_would_not_deploy_names_source_property_and_remedy() {
    let place = "template t.yaml: event source `OrderChanges`: mapping parameter ";
    check_refused(
        "BatchSize: 25",
        "BatchSize: 10001",
        &format!("{place}`BatchSize` is 10001, expected an integer from 1 to 10000"),
    );
    check_refused(
        "BatchSize: 25",
        "FilterCriteria: {Filters: [{Pattern: '{\"eventName\": \"INSERT\"}'}]}",
        &format!(
            "{place}`FilterCriteria`: Invalid filter pattern definition. filter 1: `eventName` \
             is \"INSERT\"; allowed: a list of values, or an object"
        ),
    );
    check_refused(
        "StartingPosition: TRIM_HORIZON",
        "Enabled: true",
        &format!(
            "{place}`StartingPosition` is missing, \
             expected TRIM_HORIZON or LATEST: AWS demands it for a stream"
        ),
    );
    check_refused(
        "TRIM_HORIZON",
        "AT_TIMESTAMP",
        &format!(
            "{place}`StartingPosition` is \"AT_TIMESTAMP\", \
             expected TRIM_HORIZON or LATEST for DynamoDB"
        ),
    );
    check_refused(
        "{Type: S3, Destination: !GetAtt Failed.Arn}",
        "{Destination: !GetAtt Fifo.Arn}",
        &format!(
            "{place}`DestinationConfig.OnFailure.Destination` is \
             arn:aws:sqs:us-east-1:123456789012:Fifo.fifo, expected the ARN of a standard \
             SQS queue, a standard SNS topic or an S3 bucket"
        ),
    );
}

#[test]
fn a_destination_outside_the_template_gets_its_kind_from_sam() {
    let text = TEMPLATE.replace("!GetAtt Failed.Arn", "!Ref BucketOfAnotherStack");
    let found = template(&text).event_source(Source::DynamoDb, None).unwrap();
    assert!(matches!(found.parameters.on_failure, Some(Destination::S3(_))), "{found:?}");
}

#[test]
fn a_file_that_is_no_template_is_told_apart() {
    let parse = |text: &str| Template::parse(Path::new("t.yaml"), text).unwrap_err();
    assert!(matches!(parse("a: ["), TemplateError::Yaml { .. }));
    assert!(matches!(parse("a: 1"), TemplateError::NoResources { .. }));
    let missing = Template::read("/nowhere/template.yaml").unwrap_err();
    assert_eq!(missing.to_string(), "template /nowhere/template.yaml: cannot be read");
}
