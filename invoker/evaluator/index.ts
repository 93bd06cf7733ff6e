export {
  type Code,
  EVALUATED_LANGUAGES,
  type EvaluatedLanguage,
  Evaluators,
  type EvaluatorsOptions,
  type PreparedCode,
} from './evaluators.ts';
