export { type OutputRouteOptions, outputRoute } from './output-route.ts';
export { OUTPUTS_RETENTION, type OutputRef, Outputs, type OutputsOptions } from './outputs.ts';
export { S3Bucket, type S3BucketOptions } from './s3-bucket.ts';
